"""Nearest-neighbour enlargement followed by a 3x3 convolution, without the enlarged map.

An output pixel sees a 3x3 window of the enlarged map, which covers only 2x2 pixels of the small one: the
weights that fall on the same small pixel are added beforehand. Which fall together depends on whether
the output's row and column are even or odd, hence four 2x2 convolutions and 4/9 of the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from svd_local.engine.fused.layout import as_images, from_images
from svd_local.engine.fused.ops import conv3x3

if TYPE_CHECKING:
    from torch import Tensor

    from svd_local.engine.fused.passes import Passes
    from svd_local.engine.fused.weights import Upsample


def quarters(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four 2x2 weights (out, in, 2, 2) that a 3x3 weight (out, in, 3, 3) folds into."""
    top, bottom = _halves(weight, 2)
    return (*_halves(top, 3), *_halves(bottom, 3))


def _halves(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Along one axis of three taps: for even outputs (a, b + c), for odd ones (a + b, c)."""
    import torch

    a, b, c = (weight.narrow(axis, tap, 1) for tap in range(3))
    return torch.cat([a, b + c], dim=axis), torch.cat([a + b, c], dim=axis)


def upsample(x: Tensor, weights: Upsample, size: tuple[int, int], passes: Passes) -> Tensor:
    """Enlarge (b, f, h, w, c) to (b, f, *size, out) and convolve."""
    channels = weights.conv.weight.shape[0]
    slices = passes.slices(x.shape[1], size[0] * size[1] * channels)
    if len(slices) == 1:
        return _upsample(x, weights, size)
    out = x.new_empty(*x.shape[:2], *size, channels)
    for chosen in slices:
        out[:, chosen] = _upsample(x[:, chosen], weights, size)
    return out


def _upsample(x: Tensor, weights: Upsample, size: tuple[int, int]) -> Tensor:
    from torch.nn.functional import conv2d, interpolate

    batch, frames, height, width, _ = x.shape
    if size != (2 * height, 2 * width):
        enlarged = interpolate(as_images(x), size=size, mode="nearest")
        return conv3x3(from_images(enlarged, batch), weights.conv)
    images = as_images(x)
    channels = weights.conv.weight.shape[0]
    out = x.new_empty(batch * frames, height, 2, width, 2, channels)
    for index, quarter in enumerate(weights.quarters):
        row, column = divmod(index, 2)
        # Padding by one on every side computes one row and one column too many; cutting them off
        # is cheaper than padding one-sidedly, which would copy the input four times.
        part = conv2d(images, quarter, weights.conv.bias, padding=1)
        part = part[:, :, row : row + height, column : column + width]
        out[:, :, row, :, column] = part.permute(0, 2, 3, 1)
    return out.view(batch, frames, *size, channels)
