"""The exact decode that never holds more than one map of all frames.

The temporal group norm spans all frames, so no overlap makes a decode in chunks exact. But every part of
a resblock is local either to a frame or to a position, once the norms' statistics are known:

1. frame by frame: enlarge where it is due, the spatial half, statistics for the first norm;
2. position by position, all frames of it: first norm, first convolution, statistics for the second;
3. position by position: the first convolution again, second norm and convolution, added in place.

The map between two resblocks is the only thing kept whole, as one tensor per frame, on the device or in
host memory. The repeated convolution is the price: less than a tenth of the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from svd_local.engine.fused.decoder_parts import biases, enter, prepared
from svd_local.engine.fused.layout import as_clip_rows, as_time, from_time
from svd_local.engine.fused.norms import (
    Moments,
    Scaling,
    apply_silu,
    piece_moments,
    scaling_of,
    widened,
)
from svd_local.engine.fused.ops import convolve
from svd_local.engine.fused.resblock import spatial
from svd_local.engine.fused.skips import to_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

    from svd_local.engine.fused.weights import DecoderLayer, DecoderWeights, Norm, Residual


@dataclass(frozen=True, slots=True)
class Streaming:
    """How a streaming decode uses memory.

    Attributes:
        host: keep the maps in host memory (pinned where there is CUDA) instead of on the device.
        positions: positions in a temporal pass; None for as many as make a pass the size of a frame,
            of half a frame with the maps in host memory.
    """

    host: bool = False
    positions: int | None = None


class FrameStore:
    """One map of all frames, a tensor (1, 1, h, w, c) for each, on the device or in host memory."""

    def __init__(self, device: torch.device, *, host: bool) -> None:
        self._device = device
        self._host = host
        self._frames: list[Tensor | None] = []

    def keep(self, frame: Tensor) -> None:
        """Append a frame."""
        self._frames.append(to_host(frame) if self._host else frame)

    def take(self, index: int) -> Tensor:
        """A frame on the device; the store forgets it."""
        frame = self._frames[index]
        assert frame is not None
        self._frames[index] = None
        return frame.to(self._device, non_blocking=True)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def positions(self) -> int:
        """Pixels of a frame."""
        return self._rows(0).shape[2]

    def gather(self, chosen: slice) -> Tensor:
        """Some positions of all frames, copied to the device: (1, f, n, c)."""
        import torch

        rows = [self._rows(i)[:, :, chosen] for i in range(len(self))]
        return torch.cat([row.to(self._device, non_blocking=True) for row in rows], dim=1)

    def scatter(self, chosen: slice, values: Tensor) -> None:
        """Put (1, f, n, c) back in its place."""
        for index in range(len(self)):
            row = self._rows(index)[:, :, chosen]
            row.copy_(values[:, index : index + 1], non_blocking=True)

    def _rows(self, index: int) -> Tensor:
        frame = self._frames[index]
        assert frame is not None
        return frame.flatten(2, 3)


def stream(latents: Tensor, weights: DecoderWeights, options: Streaming) -> Iterator[Tensor]:
    """The last map's frames (1, 1, h, w, c) in order, from one clip's latents (f, channels, h, w)."""
    store = FrameStore(latents.device, host=options.host)
    for index in range(latents.shape[0]):
        store.keep(enter(latents[index : index + 1], weights))
    for layer in weights.layers:
        store = _layer(store, layer, options, latents.device)
    for index in range(len(store)):
        yield store.take(index)


def _layer(
    store: FrameStore, layer: DecoderLayer, options: Streaming, device: torch.device
) -> FrameStore:
    """The map after a resblock, from the map before it, which is used up frame by frame."""
    block, (spatial_bias, temporal_bias) = layer.block, biases(layer.block)
    groups = block.temporal.norm1.groups
    after = FrameStore(device, host=options.host)
    moments = []
    for index in range(len(store)):
        frame = spatial(prepared(store.take(index), layer.before), block.spatial, spatial_bias)
        moments.append(piece_moments(as_clip_rows(frame.flatten(2, 3)), groups))
        after.keep(frame)
        del frame
    _temporal_(
        after, block.temporal, temporal_bias, _scaling(moments, block.temporal.norm1), options
    )
    return after


def _temporal_(
    store: FrameStore, weights: Residual, bias: Tensor, first: Scaling, options: Streaming
) -> None:
    conv2 = weights.conv2
    assert conv2.bias is not None
    step = options.positions or pass_positions(store.positions, len(store), host=options.host)
    slices = [slice(start, start + step) for start in range(0, store.positions, step)]

    def convolved(rows: Tensor) -> Tensor:
        return from_time(
            convolve(as_time(_scaled(rows, first)), weights.conv1.weight, bias, (1, 0))
        )

    moments = []
    for chosen in slices:
        h = convolved(store.gather(chosen))
        moments.append(piece_moments(as_clip_rows(h), weights.norm2.groups))
    second = _scaling(moments, weights.norm2)
    for chosen in slices:
        rows = store.gather(chosen)
        h = as_time(_scaled(convolved(rows), second))
        rows += from_time(convolve(h, conv2.weight, conv2.bias[None], (1, 0)))
        store.scatter(chosen, rows)


def pass_positions(positions: int, frames: int, *, host: bool) -> int:
    """Positions of a temporal pass, whose temporaries come to nine times its size in half precision.

    On the device that is less than the maps that are kept there anyway.
    """
    return -(-positions // (2 * frames if host else frames))


def _scaling(moments: list[Moments], norm: Norm) -> Scaling:
    return scaling_of(reduce(Moments.merged, moments), norm, widened(norm.weight).dtype)


def _scaled(rows: Tensor, scaling: Scaling) -> Tensor:
    return apply_silu(as_clip_rows(rows), scaling).view(rows.shape)
