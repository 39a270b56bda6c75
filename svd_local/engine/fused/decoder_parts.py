"""The decoder's operations on whole frames: the way in, what comes before resblocks, the way out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from svd_local.engine.fused.layout import as_frame_rows, as_time, from_images, from_time
from svd_local.engine.fused.norms import group_norm, group_norm_silu
from svd_local.engine.fused.ops import attend, conv3x3, linear_
from svd_local.engine.fused.passes import WHOLE
from svd_local.engine.fused.resample import upsample
from svd_local.engine.fused.weights import FrameAttention

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from svd_local.engine.fused.resblock import Biases
    from svd_local.engine.fused.weights import DecoderWeights, ResBlock, Upsample


def enter(latents: Tensor, weights: DecoderWeights) -> Tensor:
    """conv_in on one clip's latents (f, channels, h, w): (1, f, h, w, c)."""
    from torch.nn.functional import conv2d

    images = conv2d(latents, weights.conv_in.weight, weights.conv_in.bias, padding=1)
    return from_images(images, 1)


def prepared(x: Tensor, before: FrameAttention | Upsample | None) -> Tensor:
    """What a resblock gets to see of (b, f, h, w, c), which may be changed on the way."""
    if before is None:
        return x
    if isinstance(before, FrameAttention):
        _attend_(x, before)
        return x
    height, width = x.shape[2:4]
    return upsample(x, before, (2 * height, 2 * width), WHOLE)


def _attend_(x: Tensor, weights: FrameAttention) -> None:
    rows = group_norm(as_frame_rows(x), weights.norm)
    qkv = linear_(rows, weights.attention.qkv)
    heads = qkv.view(*rows.shape[:2], 3, weights.attention.heads, -1)
    query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
    mixed = attend(query, key, value).transpose(1, 2).reshape(rows.shape)
    x.add_(linear_(mixed, weights.attention.out).view(x.shape))


def biases(block: ResBlock) -> Biases:
    """The decoder has no time embedding: both first convolutions keep their own bias."""
    spatial, temporal = block.spatial.conv1.bias, block.temporal.conv1.bias
    assert spatial is not None
    assert temporal is not None
    return spatial[None], temporal[None]


def leave(frames: Iterable[Tensor], weights: DecoderWeights) -> Iterator[Tensor]:
    """The way out: from each frame (b, 1, h, w, c) to its picture (b, 1, h, w, 3).

    The last convolution sees the pictures before and after, so each comes one frame late.
    """
    window: deque[Tensor] = deque(maxlen=3)
    for count, frame in enumerate(frames):
        normed = group_norm_silu(as_frame_rows(frame), weights.norm_out).view(frame.shape)
        window.append(conv3x3(normed, weights.conv_out))
        if count > 0:
            yield _across(window, weights, first=count == 1, last=False)
    while len(window) > 2:
        window.popleft()
    yield _across(window, weights, first=len(window) == 1, last=True)


def _across(
    window: Iterable[Tensor], weights: DecoderWeights, *, first: bool, last: bool
) -> Tensor:
    """The middle picture of three, fewer at the ends, where nothing stands for what is missing."""
    import torch
    from torch.nn.functional import conv2d

    around = torch.cat(list(window), dim=1)
    taps = slice(1 if first else 0, 2 if last else 3)
    weight = weights.time_conv_out.weight[:, :, taps]
    time = conv2d(as_time(around.flatten(2, 3)), weight, weights.time_conv_out.bias)
    return from_time(time).view(around.shape[0], 1, *around.shape[2:])


def to_bytes(picture: Tensor) -> Tensor:
    """From (1, 1, h, w, 3) around -1 to 1 to uint8 (h, w, 3), rounded as the pipeline rounds."""
    import torch

    levels = (picture[0, 0].float() / 2 + 0.5).clamp_(0, 1).mul_(255)
    return levels.round_().to(torch.uint8)
