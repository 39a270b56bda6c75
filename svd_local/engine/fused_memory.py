"""What a step of the fused UNet takes at its peak, worked out from shapes alone; see `ledger`.

``places`` are the positions of one frame, ``pixels`` those of all frames of a batch.
"""

from __future__ import annotations

from svd_local.engine.blueprint import Blueprint, Layer, UNetShape
from svd_local.engine.fused.fp8 import wide_enough
from svd_local.engine.fused.kernels.choice import MOST_FRAMES, NONE, Kernels
from svd_local.engine.ledger import WHOLE, Ledger, joined_spatial, pieces_of, temporal
from svd_local.engine.values import Sampling


def _beside(ledger: Ledger, inputs: int) -> float:
    """What a layer's input takes once more where it is in 8 bits, in elements for each of its own."""
    return ledger.byte if ledger.fp8 and wide_enough(inputs) else 0


def _geglu(ledger: Ledger, tokens: float, width: int) -> float:
    """GEGLU of tokens that were normed for it, and still are there: leaves four times as much."""
    if ledger.kernels.has("geglu-product", width) and not _beside(ledger, width):
        ledger.touch(5 * tokens)
    else:
        ledger.touch(13 * tokens)
    return 4 * tokens


def _feed_forward(ledger: Ledger, tokens: float, width: int) -> None:
    """GEGLU of tokens that were normed for it, projected back: leaves nothing."""
    hidden = _geglu(ledger, tokens, width)
    ledger.touch(tokens + (1 + _beside(ledger, 4 * width)) * hidden + tokens)


def _transformer(
    ledger: Ledger,
    batch: int,
    frames: int,
    places: int,
    pixels: float,
    layer: Layer,
    limit: int,
) -> None:
    """All pairs of blocks, in passes over frames and positions."""
    width = layer.out
    eighth = _beside(ledger, width)
    whole = pixels * width
    step, by_frame = pieces_of(frames, places * width, limit)
    _, by_place = pieces_of(places, frames * width, limit)
    tokens, moving = whole * by_frame, whole * by_place
    if step == frames:
        ledger.norm(whole, width)
        ledger.make(whole)
        ledger.drop(whole)
    else:
        ledger.make(whole)
        ledger.norm(tokens, width)
        ledger.touch(tokens)
        ledger.drop(tokens)
    # Spatial: query, key and value, the mixed values, their product and the norm.
    most = 6 if ledger.kernels.has("add-layer-norm", width) else 5
    ledger.touch((most + eighth) * tokens)
    _feed_forward(ledger, tokens, width)
    with ledger.holding(moving):
        _temporal_block(ledger, batch, frames, moving, width)
    ledger.touch(tokens)
    ledger.drop(whole)


def _temporal_block(ledger: Ledger, batch: int, frames: int, moving: float, width: int) -> None:
    eighth = _beside(ledger, width)
    hidden = _geglu(ledger, moving, width)
    ledger.touch((1 + _beside(ledger, 4 * width)) * hidden + 2 * moving)
    if ledger.kernels.has("temporal-attention", width) and frames <= MOST_FRAMES:
        ledger.touch((5 + eighth) * moving)
    else:
        ledger.touch(4 * moving + max(eighth * moving, (2 + eighth) * moving / batch))
    _feed_forward(ledger, moving, width)


def step_bytes(
    blueprint: Blueprint,
    sampling: Sampling,
    *,
    itemsize: int,
    on_gpu: bool,
    halves: bool,
    limit: int | None,
    host_skips: bool,
    kernels: Kernels = NONE,
) -> int:
    """Bytes that one step of the UNet makes at its peak, beside weights and the clip's constants.

    Args:
        blueprint: of the checkpoint.
        sampling: the clip's parameters.
        itemsize: bytes of an element.
        on_gpu: see `Ledger`.
        halves: whether guidance runs one half after the other.
        limit: elements of a pass; None for as much as kernels can index.
        host_skips: whether the way down leaves its maps in host memory.
        kernels: of our own that run.
    """
    shape = blueprint.unet
    ledger = Ledger(itemsize, on_gpu, kernels, fp8=sampling.fp8)
    batch = 1 if halves or not sampling.guided else 2
    walk = _Walk(ledger, shape, sampling, batch, limit or WHOLE, host_skips)
    latents = walk.pixels(0) / batch * (shape.in_channels // 2)
    # While one half runs as a whole, the other's deep feature is there already.
    others = walk.feature if halves and sampling.guided else 0
    with ledger.holding(2 * latents + others):
        walk.run()
    return ledger.peak_bytes


class _Walk:
    """Through the network at one step, as `fused.network.features` goes.

    Where deep features are cached, it is a step that runs as a whole and keeps its own: the steps
    between make less.
    """

    def __init__(
        self,
        ledger: Ledger,
        shape: UNetShape,
        sampling: Sampling,
        batch: int,
        limit: int,
        host: bool,
    ) -> None:
        self._ledger = ledger
        self._shape = shape
        self._frames = sampling.frames
        self._batch = batch
        self._limit = limit
        self._host = host
        height, width = sampling.height // 8, sampling.width // 8
        self._places = [height * width]
        for _ in range(shape.deepest):
            height, width = (height + 1) // 2, (width + 1) // 2
            self._places.append(height * width)
        self._skips: list[float] = []
        self._depth = 0 if sampling.caching is None else sampling.caching.depth
        self.feature = 0.0
        """Elements of the deep feature that a step leaves on the device."""
        if self._depth and not host:
            entered = [layer for level in shape.up() for layer in level][-1 - self._depth]
            self.feature = self.pixels(entered.level) * entered.channels

    def pixels(self, level: int) -> float:
        """Positions of the whole batch at a level."""
        return self._batch * self._frames * self._places[level]

    def run(self) -> None:
        ledger, shape = self._ledger, self._shape
        x = self.pixels(0) * shape.widths[0]
        ledger.touch(x + x / self._batch if self._batch > 1 else x)
        ledger.make(x)
        self._skips.append(x)
        for level, layers in enumerate(shape.down()):
            for layer in layers:
                x = self._down(x, layer)
            if level < shape.deepest:
                out = self.pixels(level + 1) * shape.widths[level]
                ledger.make(out)
                ledger.drop(x if self._host else 0)
                x = out
                self._skips.append(x)
        for index, layer in enumerate(shape.middle()):
            # The last map of the way down is a skip as well.
            x = self._layer(layer, x=x if index or self._host else 0)
        for layers in shape.up():
            for layer in layers:
                skip = self._skips.pop()
                kept = self.feature and len(self._skips) == self._depth
                x = self._layer(layer, skip=0 if self._host else skip, x=0 if kept else x)
            level = layers[-1].level
            if level:
                out = self.pixels(level - 1) * layers[-1].out
                quarter = out / 4 if self._limit == WHOLE else min(out / 4, self._limit / 4)
                ledger.make(out)
                ledger.touch(2 * quarter)
                ledger.drop(x)
                x = out
        self._way_out(x)

    def _way_out(self, x: float) -> None:
        _, share = pieces_of(self._frames, x / self._frames / self._batch, self._limit)
        self._ledger.norm(x * share, self._shape.widths[0])
        self._ledger.drop(x * share + x)

    def _down(self, x: float, layer: Layer) -> float:
        """A layer whose input stays as a skip, on the device or not, and whose result does too."""
        after = self._layer(layer, x=x if self._host else 0)
        self._skips.append(after)
        return after

    def _layer(self, layer: Layer, *, skip: float = 0, x: float = 0) -> float:
        """A resblock and its transformer; ``skip`` and ``x`` end with the spatial half."""
        places, pixels = self._places[layer.level], self.pixels(layer.level)
        joined_spatial(
            self._ledger, self._frames, places, pixels, layer, self._limit, host=self._host
        )
        self._ledger.drop(skip + x)
        temporal(self._ledger, self._frames, places, pixels, layer.out, self._limit)
        if layer.depth:
            _transformer(
                self._ledger,
                self._batch,
                self._frames,
                places,
                pixels,
                layer,
                self._limit,
            )
        return pixels * layer.out
