"""Four small convolutions instead of one on an enlarged map."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import conv2d, interpolate

from svd_local.engine.fused.counting import count_flops, fake_cuda
from svd_local.engine.fused.layout import as_images, from_images
from svd_local.engine.fused.passes import WHOLE, Passes
from svd_local.engine.fused.resample import quarters, upsample
from svd_local.engine.fused.weights import Affine, Upsample


def random_weights() -> Upsample:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(5, 3, 3, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(5, generator=generator, dtype=torch.float64)
    return Upsample(Affine(weight, bias), quarters(weight))


@pytest.mark.parametrize("passes", [WHOLE, Passes(1)])
@pytest.mark.parametrize("size", [(8, 12), (7, 12), (8, 11), (7, 11), (9, 13), (4, 6)])
@pytest.mark.parametrize("batch", [1, 2])
def test_equals_enlarging_and_convolving(
    distance: Any, batch: int, size: tuple[int, int], passes: Passes
) -> None:
    """Exactly twice the size takes the four quarters, any other size the plain way."""
    weights = random_weights()
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(batch, 3, 4, 6, 3, generator=generator, dtype=torch.float64)
    enlarged = interpolate(as_images(x), size=size, mode="nearest")
    wanted = conv2d(enlarged, weights.conv.weight, weights.conv.bias, padding=1)
    found = upsample(x, weights, size, passes)
    assert found.is_contiguous()
    assert distance(found, from_images(wanted, batch)) < 1e-14


def test_it_is_less_than_half_the_work_on_a_large_map() -> None:
    with fake_cuda():
        weight, bias = torch.empty(64, 64, 3, 3, device="cuda"), torch.empty(64, device="cuda")
        weights = Upsample(Affine(weight, bias), quarters(weight))
        x = torch.empty(1, 2, 72, 128, 64, device="cuda")
        plain = count_flops(
            lambda: conv2d(torch.empty(2, 64, 144, 256, device="cuda"), weight, bias, padding=1)
        )
        assert count_flops(lambda: upsample(x, weights, (144, 256), WHOLE)) < 0.47 * plain
