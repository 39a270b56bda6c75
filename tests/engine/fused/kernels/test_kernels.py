"""Every kernel, interpreted or on a GPU, is as near to the truth as its twin, at sizes that fit no block.

Here they skip themselves without Triton; `benchmarks/README.md` says how to run them without a GPU.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch

from svd_local.engine.fused.kernels import proof
from svd_local.engine.fused.kernels.choice import ALL, KERNELS, Kernels, using
from svd_local.engine.fused.kernels.proof import ALLOWED_RATIO, Trial

TRIALS = [
    proof.group_norm(1, 1, 64),
    proof.group_norm(3, 70, 32),
    proof.group_norm(4, 131, 96, biases=2),
    proof.group_norm(2, 1100, 40, biases=1),
    proof.pieces(2, 700, 72),
    proof.geglu("geglu", 37, 40),
    proof.geglu("geglu-product", 131, 40),
    proof.geglu("geglu-product", 200, 64),
    proof.attention(2, 25, 5, 64),
    proof.attention(1, 14, 3, 128, 64),
    proof.attention(1, 32, 9, 64, 32),
    proof.attention(2, 1, 2, 32, 16),
    proof.residual(2, 19, 96, biases=2),
    proof.residual(1, 5, 48),
]


def name(trial: Trial) -> str:
    return f"{trial.kernel} {trial.shapes[0]}"


@pytest.mark.parametrize("trial", TRIALS, ids=name)
def test_a_kernel_is_as_near_to_the_truth_as_its_twin(trial: Trial, kernel_device: str) -> None:
    with torch.inference_mode():
        for seed in range(2):
            inputs = trial.drawn(kernel_device, torch.float16, seed)
            ours, twins = trial.errors(trial.own(), inputs)
            # Where a result is all rounding, as of one frame's attention, both may be right to the bit.
            assert ours <= ALLOWED_RATIO * twins + 1e-7


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_configuration_computes_the_same(kernel: Any, kernel_device: str) -> None:
    from benchmarks.twins import configurations

    trial = next(one for one in TRIALS[1:] if one.kernel == kernel)
    with torch.inference_mode():
        inputs = trial.drawn(kernel_device, torch.float16)
        for config in configurations(kernel):
            ours, twins = trial.errors(trial.own(config), inputs)
            assert ours <= ALLOWED_RATIO * twins


def test_a_large_mean_costs_the_kernel_no_digits(kernel_device: str) -> None:
    rows = torch.randn(2, 600, 64, device=kernel_device).half() + 100
    trial = proof.group_norm(2, 600, 64)
    with torch.inference_mode():
        ours, twins = trial.errors(ALL, [rows, *trial.drawn(kernel_device, torch.float16)[1:]])
    assert ours <= ALLOWED_RATIO * twins


@pytest.mark.parametrize("width", [32, 40])
def test_a_map_whose_items_lie_apart_is_added_to_in_place(kernel_device: str, width: int) -> None:
    """As the pieces of a map are, when it is worked on by frames; also where no 16 bytes begin an item."""
    from svd_local.engine.fused import ops
    from svd_local.engine.fused.weights import Affine, Norm

    whole = torch.randn(2, 3, 5, width, device=kernel_device).half()
    before, y = whole.clone(), torch.randn(2, 2, 5, width, device=kernel_device).half()
    layer = Affine(torch.eye(width, device=kernel_device).half(), None)
    bias = torch.zeros_like(y[0, :1, 0])
    norm = Norm(torch.ones_like(bias[0]), torch.zeros_like(bias[0]), 1e-5)
    with torch.inference_mode(), using(ALL):
        normed = ops.add_projected_and_norm_(whole[:, :2], y, layer, bias, norm)
    assert torch.equal(whole[:, :2], before[:, :2] + y)
    assert torch.equal(whole[:, 2], before[:, 2])
    wanted = torch.nn.functional.layer_norm(whole[:, :2].float(), (width,))
    assert float((normed - wanted).abs().max()) < 5e-3


def test_what_is_proven_runs(kernel_device: str) -> None:
    kernels, notes = proof.proven(Kernels(won={("geglu", 32): {"rows": 4, "columns": 64, "warps": 1}}), kernel_device, torch.float16)  # fmt: skip
    assert notes == ()
    assert kernels.has("geglu", 32)


def test_every_module_says_how_it_cuts_its_work(kernel_device: str) -> None:
    from benchmarks.twins import MODULES

    for module in MODULES.values():
        found: Any = import_module(f"svd_local.engine.fused.kernels.{module}")
        assert found.CONFIGS[0] == found.DEFAULT
        assert all(config.keys() == found.DEFAULT.keys() for config in found.CONFIGS)
