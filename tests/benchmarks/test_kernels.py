"""Kernels are counted once, and the bytes of an operation go to the kernels it launched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchmarks.setting import Setting


def _event(name: str, device: str, us: float = 0, parent: Any = None, kernels: Any = ()) -> Any:
    return SimpleNamespace(
        name=name,
        device_type=SimpleNamespace(name=device),
        time_range=SimpleNamespace(elapsed_us=lambda: us),
        cpu_parent=parent,
        kernels=[SimpleNamespace(name=name, duration=us) for name, us in kernels],
        is_user_annotation=name.startswith("annotation"),
    )


def test_time_and_bytes_come_together_by_name() -> None:
    from benchmarks.kernels import heaviest, kernels_of

    norm = _event("operation|0", "CPU")
    product = _event("operation|1", "CPU")
    events = [
        norm,
        product,
        _event("launch", "CPU", parent=_event("aten::norm", "CPU", parent=norm), kernels=[("moments", 100), ("apply", 300)]),
        _event("launch", "CPU", parent=product, kernels=[("gemm", 5000)]),
        _event("launch", "CPU", kernels=[("apply", 300)]),
        _event("moments", "CUDA", 100),
        _event("apply", "CUDA", 300),
        _event("apply", "CUDA", 300),
        _event("gemm", "CUDA", 5000),
        _event("operation|1", "CUDA", 5000),
        _event("annotation", "CUDA", 9000),
    ]  # fmt: skip
    gemm, apply, moments = heaviest(kernels_of(events, [4000, 70]))
    assert (gemm.name, gemm.calls, gemm.ms, gemm.bytes) == ("gemm", 1, 5.0, 70)
    assert (apply.calls, apply.bytes) == (2, 3000)
    assert apply.ms == pytest.approx(0.6)
    assert moments.bytes == 1000


def test_a_profile_lists_the_operations_of_a_step(setting: Setting) -> None:
    from benchmarks.kernels import measure

    result = measure(setting, "fused", for_s=0)
    assert (result["benchmark"], result["listed"]) == ("kernels", "operations")
    times = [row["ms"] for row in result["heaviest"]]
    assert times == sorted(times, reverse=True)
    by_name = {row["name"]: row for row in result["heaviest"]}
    assert by_name["aten.convolution.default"]["bytes"] > 0
    assert not any("view" in name and "unsafe" not in name for name in by_name)
    assert sum(row["share"] for row in result["heaviest"]) <= 1.001
