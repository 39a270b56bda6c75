"""The fastest attention kernel by a table: the nearest shape counts, and what is unknown is torch's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend
from torch.nn.functional import scaled_dot_product_attention

from svd_local.engine.fused import attention
from svd_local.engine.fused.attention import Measured, fastest, learn

ROW: dict[str, Any] = {
    "dtype": "torch.float16", "batch": 50, "heads": 5, "tokens": 9216, "size": 64, "backend": "cudnn",
    "ms": {"cudnn": 1.0, "flash": 1.5},
}  # fmt: skip
ROWS = [Measured.of({**ROW, **changed}) for changed in (
    {}, {"tokens": 2304, "heads": 10, "backend": "flash"}, {"tokens": 25, "backend": "torch"},
    {"batch": 2, "backend": "efficient"},
)]  # fmt: skip


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Testing 9000")
    monkeypatch.setattr(attention, "_known", {})
    attention._rows_of.cache_clear()
    yield "Testing 9000"
    attention._rows_of.cache_clear()


@pytest.mark.parametrize(
    ("shape", "backend"),
    [
        ((50, 5, 9216, 64), "cudnn"),
        ((28, 5, 9216, 64), "cudnn"),
        ((1, 5, 9216, 64), "efficient"),
        ((50, 10, 2400, 64), "flash"),
        ((9216, 5, 25, 64), None),
        ((50, 20, 144, 64), None),
        ((25, 1, 9216, 512), None),
    ],
)
def test_the_nearest_shape_counts(shape: tuple[int, ...], backend: str | None) -> None:
    assert fastest(ROWS, "torch.float16", *shape) == backend
    assert fastest(ROWS, "torch.float32", *shape) is None


def test_a_gpu_that_is_not_in_the_table_is_left_to_torch(gpu: str) -> None:
    assert attention._chosen(0, "torch.float16", 50, 5, 9216, 64) is None
    learn(gpu, [ROW])
    assert attention._chosen(0, "torch.float16", 50, 5, 9216, 64) == "cudnn"
    with pytest.raises(ValueError, match="no attention backend 'fast'"):
        learn(gpu, [{**ROW, "backend": "fast"}])


@pytest.mark.parametrize("name", attention.BACKENDS)
def test_the_chosen_kernel_comes_first_and_none_is_shut_out(name: str) -> None:
    """The order itself: the kernels for the CPU are too few to have one."""
    with attention.preferring(name):
        order = [SDPBackend(one).name for one in torch._C._get_sdp_priority_order()]

    assert order[0] == attention.BACKENDS[name]
    assert set(order) >= set(attention.BACKENDS.values())


def test_one_that_refuses_leaves_the_work_to_the_next() -> None:
    query = torch.randn(1, 2, 16, 8)
    with attention.preferring("cudnn"):
        found = scaled_dot_product_attention(query, query, query)
    torch.testing.assert_close(found, scaled_dot_product_attention(query, query, query))


def test_compiled_code_takes_the_choice_in() -> None:
    """As a constant, or there would be a break in its graph."""

    def chosen(*shape: int) -> str | None:
        return fastest(ROWS, "torch.float16", *shape)

    def attend(query: torch.Tensor) -> torch.Tensor:
        with attention.preferring(chosen(50, 5, 9216, 64) or "math"):
            return scaled_dot_product_attention(query, query, query)

    chosen.__dict__ |= attention._chosen.__dict__
    query = torch.randn(1, 2, 16, 8)
    compiled = torch.compile(attend, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(query), attend(query))
