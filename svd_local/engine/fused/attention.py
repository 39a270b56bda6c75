"""Which of torch's attention kernels runs which shape: as measured, for each model of GPU.

The kernels differ by rounding only, and by up to twice in time. The table is `attention.json`, written by
``python -m benchmarks.attention_table`` from what ``python -m benchmarks.attention`` measured. A GPU or shape
that is not in it is left to torch's own choice, and so is whatever a chosen kernel refuses.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

TABLE = Path(__file__).with_name("attention.json")
BACKENDS = {
    "flash": "FLASH_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "math": "MATH",
}
"""Names here and in torch, in the order in which they are tried after the chosen one."""
TORCHS_CHOICE = "torch"
_NEAR = 1.5
"""How many times more or fewer tokens a measured shape may have to stand for another."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The fastest backend for a shape: (batch, heads, tokens, size) in ``dtype``, as torch names it."""

    dtype: str
    batch: int
    heads: int
    tokens: int
    size: int
    backend: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Measured:
        """From a row of the table, which may say more.

        Raises:
            ValueError: no such backend.
        """
        if row["backend"] not in (*BACKENDS, TORCHS_CHOICE):
            raise ValueError(f"no attention backend {row['backend']!r}")
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


_known: dict[str, tuple[Measured, ...]] = {}
"""By the GPU's name, what was learned beside the table."""


def learn(gpu: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Take ``rows`` for a GPU of that name, in this process, instead of the table's."""
    _known[gpu] = tuple(Measured.of(row) for row in rows)
    _rows_of.cache_clear()


def is_known(gpu: str) -> bool:
    """Whether anything was measured on a GPU of that name."""
    return bool(_rows_of(gpu))


def by_measurement(query: Tensor) -> AbstractContextManager[None]:
    """Within it torch prefers the backend that was the fastest for a query (b, heads, tokens, size)."""
    if query.device.type != "cuda":
        return nullcontext()
    batch, heads, tokens, size = query.shape
    chosen = _chosen(query.device.index, str(query.dtype), batch, heads, tokens, size)
    return nullcontext() if chosen is None else preferring(chosen)


def preferring(backend: str) -> AbstractContextManager[None]:
    """Within it torch takes ``backend`` where that takes the inputs, else the next that does."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    names = [BACKENDS[backend], *(name for name in BACKENDS.values() if name != BACKENDS[backend])]
    return sdpa_kernel([getattr(SDPBackend, name) for name in names], set_priority=True)


def fastest(
    rows: Sequence[Measured], dtype: str, batch: int, heads: int, tokens: int, size: int
) -> str | None:
    """The backend of the nearest shape that was measured; None for torch's own choice."""

    def apart(row: Measured) -> tuple[float, float]:
        scores = row.batch * row.heads / (batch * heads)
        return abs(math.log(row.tokens / tokens)), abs(math.log(scores))

    near = [row for row in rows if (row.dtype, row.size) == (dtype, size)]
    best = min(near, key=apart, default=None)
    if best is None or apart(best)[0] > math.log(_NEAR) or best.backend == TORCHS_CHOICE:
        return None
    return best.backend


def _chosen(
    index: int | None, dtype: str, batch: int, heads: int, tokens: int, size: int
) -> str | None:
    import torch

    if not torch.cuda.is_available():  # tensors that only claim to lie there
        return None
    gpu = torch.cuda.get_device_name(index)
    return fastest(_rows_of(gpu), dtype, batch, heads, tokens, size)


# Compiled code has the answer in it, as `torch.compiler.assume_constant_result` would have it.
_chosen.__dict__["_dynamo_marked_constant"] = True


@functools.cache
def _rows_of(gpu: str) -> tuple[Measured, ...]:
    if gpu in _known:
        return _known[gpu]
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    return tuple(Measured.of(row) for row in table.get(gpu, {}).get("rows", ()))
