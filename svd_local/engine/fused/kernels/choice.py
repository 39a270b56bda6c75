"""Which of our kernels run: where one was measured to win on this GPU, at this width, or as one is told.

A width is the number of channels of a map, because that is what tells the sizes of one kind of
operation apart. ``table.json`` has, by a GPU's own name, the widths at which a kernel won and the
configuration it won with (`benchmarks.twins` measures, and writes it). The choice is in force within
`using`, and is the process's, as a GPU is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Kernel = Literal["group-norm", "geglu", "geglu-product", "temporal-attention", "add-layer-norm"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
Wish = Literal["auto", "all", "none"]
"""``auto``: where measured to win; ``all``: wherever they can; ``none``: plain torch."""
WISHES: tuple[Wish, ...] = get_args(Wish)
Config = Mapping[str, int]
"""How a kernel cuts its work; each kernel's own, see its ``DEFAULT``."""
MOST_FRAMES = 32
HEAD_SIZES = (16, 32, 64, 128)
"""Clips and heads that the attention among frames takes."""
_HALF = 2


@dataclass(frozen=True, slots=True)
class Kernels:
    """A choice of kernels.

    Attributes:
        every: those that run at all widths.
        won: those that run at one width, and how.
        refused: those that do not run after all, whatever the others say.
    """

    every: frozenset[Kernel] = frozenset()
    won: Mapping[tuple[Kernel, int], Config] = field(default_factory=dict)
    refused: frozenset[Kernel] = frozenset()

    def has(self, kernel: Kernel, width: int) -> bool:
        """Whether ``kernel`` runs at ``width``."""
        if kernel in self.refused:
            return False
        return kernel in self.every or (kernel, width) in self.won

    def config(self, kernel: Kernel, width: int) -> Config | None:
        """What it won with; None for its own default."""
        return self.won.get((kernel, width))

    def without(self, kernel: Kernel) -> Kernels:
        """The same with one refused."""
        return replace(self, refused=self.refused | {kernel})

    def widths(self) -> dict[Kernel, tuple[int, ...]]:
        """Kernels that run, in their usual order: at these widths, at all of them where there are none."""
        found: dict[Kernel, tuple[int, ...]] = {}
        for kernel in KERNELS:
            won = tuple(sorted(width for name, width in self.won if name == kernel))
            if kernel not in self.refused and (kernel in self.every or won):
                found[kernel] = () if kernel in self.every else won
        return found

    def to_json(self) -> dict[str, list[int] | str]:
        """As results tell it."""
        return {kernel: list(widths) or "all" for kernel, widths in self.widths().items()}


NONE = Kernels()
ALL = Kernels(every=frozenset(KERNELS))

_active = NONE
_learned: dict[str, Any] = {}
"""By the GPU's name, what was measured beside the table."""


def takes(kernel: Kernel, x: Tensor, width: int) -> bool:
    """Whether the work on ``x`` is the kernel's, or its twin's: never but in half precision."""
    return _active.has(kernel, width) and x.dtype.itemsize == _HALF


def takes_frames(qkv: Tensor, heads: int) -> bool:
    """Whether attention among the frames of query, key and value (..., f, n, 3 * c) is the kernel's."""
    frames, width = qkv.shape[-3], qkv.shape[-1] // 3
    fits = frames <= MOST_FRAMES and width // heads in HEAD_SIZES
    return fits and takes("temporal-attention", qkv, width)


def active() -> Kernels:
    """The choice in force."""
    return _active


@contextlib.contextmanager
def using(kernels: Kernels) -> Iterator[None]:
    """Within it this choice is in force."""
    from svd_local.engine.fused.kernels.registered import register

    global _active
    before = _active
    if kernels.widths():
        register()
    _active = kernels
    try:
        yield
    finally:
        _active = before


def choose(wish: Wish, gpu: str | None, itemsize: int) -> Kernels:
    """What ``wish`` means on a GPU (its own name; None for the CPU) with elements of that many bytes.

    Raises:
        ValueError: there is no such wish.
    """
    if wish not in WISHES:
        raise ValueError(f"kernels: {wish} is none of {', '.join(WISHES)}")
    if wish == "none" or gpu is None or itemsize != _HALF:
        return NONE
    return ALL if wish == "all" else measured(gpu, table())


def learn(gpu: str, entry: Mapping[str, Any]) -> None:
    """Take ``entry`` for a GPU of that name, in this process, instead of the table's."""
    measured(gpu, {gpu: entry})
    _learned[gpu] = entry


def table() -> dict[str, Any]:
    """What was measured, by GPU."""
    text = files(__package__).joinpath("table.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found | _learned


def measured(gpu: str, known: Mapping[str, Any]) -> Kernels:
    """The kernels that won on a GPU; none where nothing was measured."""
    kernels = known.get(gpu, {}).get("kernels", {})
    won = {
        (kernel, int(width)): entry["config"]
        for kernel in KERNELS
        for width, entry in kernels.get(kernel, {}).items()
    }
    return Kernels(won=won)
