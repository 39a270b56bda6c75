"""The resblock: a spatial residual per frame, then a temporal one across frames, in place."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from svd_local.engine.fused.layout import (
    as_clip_rows,
    as_frame_rows,
    as_images,
    as_time,
    from_images,
    from_time,
)
from svd_local.engine.fused.norms import (
    Moments,
    apply_silu,
    group_norm_silu,
    piece_moments,
    scaling_of,
    widened,
)
from svd_local.engine.fused.ops import convolve, convolve_for_norm, linear
from svd_local.engine.fused.regions import region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from svd_local.engine.fused.norms import Scaling
    from svd_local.engine.fused.passes import Passes
    from svd_local.engine.fused.weights import Norm, Residual

Biases = tuple["Tensor", "Tensor"]
"""conv1's bias with the time embedding in it, (rows, channels): spatial, temporal."""


def joined_spatial(
    parts: tuple[Tensor, ...], weights: Residual, bias: Tensor, passes: Passes
) -> Tensor:
    """The spatial residual (b, f, h, w, out), new, of the concatenation of ``parts`` (b, f, h, w, c_i).

    The parts are joined only as far as one pass needs, and all but the first may lie in host memory.
    """
    first = parts[0]
    _, frames, height, width, _ = first.shape
    channels = sum(part.shape[-1] for part in parts)
    slices = passes.slices(frames, height * width * channels)
    if len(slices) == 1:
        return spatial(_join(parts, slices[0]), weights, bias)
    out = first.new_empty(*first.shape[:4], weights.conv2.weight.shape[0])
    for chosen in slices:
        out[:, chosen] = spatial(_join(parts, chosen), weights, bias)
    return out


def _join(parts: tuple[Tensor, ...], chosen: slice) -> Tensor:
    import torch

    if len(parts) == 1:
        return parts[0][:, chosen]
    device = parts[0].device
    return torch.cat([part[:, chosen].to(device, non_blocking=True) for part in parts], dim=-1)


@region
def spatial(x: Tensor, weights: Residual, bias: Tensor) -> Tensor:
    """The spatial residual of (b, f, h, w, c), as a new tensor."""
    conv2 = weights.conv2
    assert conv2.bias is not None
    h = _normed(x, weights.norm1)
    h, late = convolve_for_norm(as_images(h), weights.conv1.weight, bias, (1, 1))
    h = from_images(h, x.shape[0])
    h = _normed(h, weights.norm2, late)
    out = convolve(as_images(h), conv2.weight, conv2.bias[None], (1, 1))
    return from_images(out, x.shape[0]).add_(
        x if weights.shortcut is None else linear(x, weights.shortcut)
    )


def _normed(x: Tensor, norm: Norm, added: Tensor | None = None) -> Tensor:
    """SiLU of the group norm of each frame."""
    return group_norm_silu(as_frame_rows(x), norm, added).view(x.shape)


def temporal_(x: Tensor, weights: Residual, bias: Tensor, passes: Passes) -> None:
    """Add the temporal residual, already scaled by its share of the mix, to (b, f, n, c) in place."""
    _, frames, positions, channels = x.shape
    slices = passes.slices(positions, frames * channels)
    if len(slices) == 1:
        _across_clip_(x, weights, bias)
        return
    _temporal_in_passes_(x, weights, bias, slices)


@region
def _across_clip_(x: Tensor, weights: Residual, bias: Tensor) -> None:
    """The same with both norms over the whole clip at once."""
    conv2 = weights.conv2
    assert conv2.bias is not None
    h = group_norm_silu(as_clip_rows(x), weights.norm1).view(x.shape)
    h, late = convolve_for_norm(as_time(h), weights.conv1.weight, bias, (1, 0))
    h = from_time(h)
    h = group_norm_silu(as_clip_rows(h), weights.norm2, late).view(x.shape)
    x.add_(from_time(convolve(as_time(h), conv2.weight, conv2.bias[None], (1, 0))))


def _temporal_in_passes_(x: Tensor, weights: Residual, bias: Tensor, slices: list[slice]) -> None:
    """The same by pieces of positions: each norm needs the pieces before it to be done."""
    import torch

    conv2 = weights.conv2
    assert conv2.bias is not None
    scaling = _scaling((x[:, :, chosen] for chosen in slices), weights.norm1)
    hidden = torch.empty_like(x)
    for chosen in slices:
        h = as_time(_scaled(x[:, :, chosen], scaling))
        hidden[:, :, chosen] = from_time(convolve(h, weights.conv1.weight, bias, (1, 0)))
    scaling = _scaling((hidden[:, :, chosen] for chosen in slices), weights.norm2)
    for chosen in slices:
        h = as_time(_scaled(hidden[:, :, chosen], scaling))
        x[:, :, chosen] += from_time(convolve(h, conv2.weight, conv2.bias[None], (1, 0)))


def _scaling(pieces: Iterator[Tensor], norm: Norm) -> Scaling:
    moments = [piece_moments(as_clip_rows(piece), norm.groups) for piece in pieces]
    merged = reduce(Moments.merged, moments)
    return scaling_of(merged, norm, widened(norm.weight).dtype)


def _scaled(x: Tensor, scaling: Scaling) -> Tensor:
    return apply_silu(as_clip_rows(x), scaling).view(x.shape)
