"""Linear layers in 8 bits: the arithmetic of `torch._scaled_mm`, as near as 8 bits allow, nowhere else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from svd_local.engine.fused import fp8
from svd_local.engine.fused.fp8 import product_, rounded
from svd_local.engine.fused.unet import FusedUNet
from svd_local.engine.fused.weights import Affine, Norm, map_tensors, tensors

FP8 = torch.float8_e4m3fn


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


def test_it_is_the_product_that_torch_has_for_a_gpu() -> None:
    layer, x = rounded(Affine(drawn(48, 64), drawn(48)), None), 5 * drawn(2, 7, 64)
    inverse = 448 / x.abs().max()
    theirs = torch._scaled_mm(
        (x * inverse).to(FP8).view(14, 64),
        layer.weight.t(),
        1 / inverse,
        layer.scale,
        out_dtype=torch.float32,
    )
    ours = product_(x.clone(), layer, layer.bias)

    torch.testing.assert_close(ours.view(14, 48), theirs + layer.bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_it_errs_by_what_eight_bits_err(dtype: torch.dtype, size: float) -> None:
    layer = Affine(drawn(32, 256, dtype=dtype) / 16, drawn(32, dtype=dtype))
    x = (size * drawn(5, 3, 256)).to(dtype)
    wanted = functional.linear(x.double(), layer.weight.double())
    found = product_(x.clone(), rounded(layer, None), None)

    assert (found.shape, found.dtype) == ((5, 3, 32), dtype)
    far = float((found.double() - wanted).norm() / wanted.norm())
    assert 0.01 < far < 0.06


def test_the_scale_after_a_layer_norm_is_made_from_its_weights_and_never_too_small() -> None:
    """The largest value a normed row can have, on the channel with the largest weight."""
    norm = Norm(1 + drawn(64).half(), drawn(64).half(), 1e-5)
    layer = rounded(Affine(drawn(32, 64).half(), None), norm)
    x = torch.zeros(1, 64)
    x[0, int(norm.weight.abs().argmax())] = 1e4
    normed = functional.layer_norm(x, (64,), norm.weight.float(), norm.bias.float()).half()
    assert layer.inverse is not None

    assert bool(torch.isfinite((normed * layer.inverse).to(FP8).float()).all())
    usual = functional.layer_norm(drawn(8, 64), (64,), norm.weight.float(), norm.bias.float())
    by_weights = product_(usual.half(), layer, None)
    by_input = product_(usual.half(), dataclasses.replace(layer, inverse=None), None)
    torch.testing.assert_close(by_weights, by_input, rtol=0.1, atol=2.0)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_stays_so(value: float) -> None:
    x = drawn(2, 64).half()
    x[1, 3] = value

    assert not bool(
        torch.isfinite(product_(x, rounded(Affine(drawn(32, 64), None), None), None)).all()
    )


def test_nothing_comes_of_nothing() -> None:
    layer = rounded(Affine(torch.zeros(32, 64), drawn(32)), None)

    assert torch.equal(product_(torch.zeros(3, 64), layer, layer.bias)[0], layer.bias)


def test_only_wide_layers_of_the_blocks_are_rounded(
    unet_case: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = unet_case(
        4, levels=2, frames=3, block_out_channels=(32, 64), num_attention_heads=(1, 2),
        down_block_types=("CrossAttnDownBlockSpatioTemporal",) * 2,
        up_block_types=("CrossAttnUpBlockSpatioTemporal",) * 2,
        layers_per_block=1, transformer_layers_per_block=1,
    )  # fmt: skip
    fused = FusedUNet.from_reference(case.unet)
    assert fused.in_fp8().weights == fused.weights
    monkeypatch.setattr(fp8, "LEAST_INPUTS", 64)
    eight = fused.in_fp8()

    def inputs(unet: FusedUNet) -> list[int]:
        return [w.shape[1] for w in tensors(unet.weights) if w.dtype == FP8]

    assert inputs(fused) == []
    # Of the wider level's four transformers all ten, of the finer one's three the feed-forwards' ends.
    assert sorted(set(inputs(eight))) == [64, 128, 256]
    assert len(inputs(eight)) == 4 * 10 + 3 * 3
    assert eight.weights.conv_in is fused.weights.conv_in
    with torch.inference_mode():
        given = (case.sample, case.timestep, case.context, case.time_ids)
        exact, near = fused.forward(*given), eight.forward(*given)
    assert 1e-4 < float((near - exact).norm() / exact.norm()) < 0.15


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gpus_product_is_the_one_that_is_emulated(dtype: torch.dtype) -> None:
    if torch.cuda.get_device_capability() < fp8.LEAST_CAPABILITY:
        pytest.skip("needs a GPU that multiplies in 8 bits")
    layer = rounded(Affine(drawn(1280, 640, dtype=dtype) / 25, drawn(1280, dtype=dtype)), None)
    x = drawn(3, 50, 640, dtype=dtype)
    emulated = product_(x.clone(), layer, layer.bias)
    found = product_(x.cuda(), map_tensors(layer, torch.Tensor.cuda), layer.bias.cuda())

    assert found.shape == emulated.shape
    apart = (found.cpu().double() - emulated.double()).norm() / emulated.double().norm()
    assert float(apart) < 5e-3
