"""One layout for everything: (batch, frames, height, width, channels), contiguous.

A linear layer takes it as it is. A spatial convolution sees the same memory as channels-last images, a
temporal one as channels-last images whose height is time and whose width is all positions. Nothing is
ever permuted in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def as_images(x: Tensor) -> Tensor:
    """(b, f, h, w, c) seen as (b*f, c, h, w) in channels-last order."""
    return x.flatten(0, 1).permute(0, 3, 1, 2)


def from_images(images: Tensor, batch: int) -> Tensor:
    """(b*f, c, h, w) in channels-last order seen as (b, f, h, w, c)."""
    items, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).contiguous()
    return rows.view(batch, items // batch, height, width, channels)


def as_time(x: Tensor) -> Tensor:
    """(b, f, n, c) seen as (b, c, f, n) in channels-last order: time is the height."""
    return x.permute(0, 3, 1, 2)


def from_time(x: Tensor) -> Tensor:
    """(b, c, f, n) in channels-last order seen as (b, f, n, c)."""
    return x.permute(0, 2, 3, 1).contiguous()


def as_tokens(x: Tensor) -> Tensor:
    """(b, f, h, w, c) seen as (b, f, h*w, c)."""
    return x.flatten(2, 3)


def as_frame_rows(x: Tensor) -> Tensor:
    """(b, f, h, w, c) seen as (b*f, h*w, c): one item per frame."""
    return x.flatten(2, 3).flatten(0, 1)


def as_clip_rows(x: Tensor) -> Tensor:
    """(b, f, n, c) seen as (b, f*n, c): one item per clip."""
    return x.flatten(1, 2)
