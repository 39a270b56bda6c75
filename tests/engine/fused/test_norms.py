"""Group norm in one sweep, by torch's kernel, and from pieces: always the same."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
import torch

from svd_local.engine.fused import norms
from svd_local.engine.fused.weights import Norm

GROUPS, CHANNELS = 4, 24


@pytest.fixture
def norm() -> Norm:
    generator = torch.Generator().manual_seed(2)
    weight, bias = torch.randn(2, CHANNELS, generator=generator, dtype=torch.float64)
    return Norm(weight, bias, 1e-5, GROUPS)


def random_rows(offset: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 35, CHANNELS, generator=generator, dtype=torch.float64) + offset


def by_torch(rows: torch.Tensor, norm: Norm, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    images = rows.transpose(1, 2).to(dtype)
    weight, bias = norm.weight.to(dtype), norm.bias.to(dtype)
    out = torch.nn.functional.group_norm(images, GROUPS, weight, bias, norm.eps)
    return out.transpose(1, 2)


def narrowed(norm: Norm, dtype: torch.dtype) -> Norm:
    return Norm(norm.weight.to(dtype), norm.bias.to(dtype), norm.eps, norm.groups)


def test_equals_torchs(norm: Norm, distance: Any) -> None:
    rows = random_rows()
    assert distance(norms.group_norm(rows, norm), by_torch(rows, norm)) < 1e-14
    silu = torch.nn.functional.silu(by_torch(rows, norm))
    assert distance(norms.group_norm_silu(rows, norm), silu) < 1e-14


@pytest.mark.parametrize("silu", [False, True])
def test_what_a_gpu_runs_equals_what_a_cpu_runs(norm: Norm, distance: Any, silu: bool) -> None:
    rows = random_rows()
    ours = norms.group_norm_silu(rows, norm) if silu else norms.group_norm(rows, norm)
    assert distance(norms._by_torch(rows, norm, silu=silu), ours) < 1e-14


def test_a_large_mean_costs_no_more_digits_than_it_must(norm: Norm, distance: Any) -> None:
    """The sum of squares minus the squared sum would lose all of them here."""
    rows = random_rows(offset=1000.0).float()
    found = norms.group_norm(rows, narrowed(norm, torch.float32))
    assert distance(found, by_torch(rows, norm)) < 2e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(norm: Norm, dtype: torch.dtype) -> None:
    rows, half = random_rows().to(dtype), narrowed(norm, dtype)
    exact = torch.nn.functional.silu(by_torch(rows, half)).to(dtype)
    found = norms.group_norm_silu(rows, half)
    assert found.dtype == dtype
    assert float((found == exact).float().mean()) > 0.99


@pytest.mark.parametrize("sizes", [[35], [1] * 35, [1, 20, 14], [30, 5]])
def test_statistics_of_pieces_merge_to_those_of_the_whole(
    norm: Norm, distance: Any, sizes: list[int]
) -> None:
    rows = random_rows(offset=3.0)
    pieces = torch.split(rows, sizes, dim=1)
    moments = reduce(norms.Moments.merged, (norms.piece_moments(p, GROUPS) for p in pieces))
    scaling = norms.scaling_of(moments, norm, torch.float64)
    found = torch.cat([norms.apply_silu(piece, scaling) for piece in pieces], dim=1)
    assert distance(found, torch.nn.functional.silu(by_torch(rows, norm))) < 1e-13


def test_the_input_stays_as_it_is(norm: Norm) -> None:
    rows = random_rows()
    before = rows.clone()
    norms.group_norm_silu(rows, norm)
    norms.piece_moments(rows, GROUPS)
    assert torch.equal(rows, before)
