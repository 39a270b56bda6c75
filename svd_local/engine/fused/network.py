"""The UNet between conv_in and conv_out, at one step, over (b, f, h, w, c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from svd_local.engine.fused.layout import as_frame_rows
from svd_local.engine.fused.norms import group_norm_silu
from svd_local.engine.fused.ops import conv3x3
from svd_local.engine.fused.resample import upsample
from svd_local.engine.fused.resblock import resblock
from svd_local.engine.fused.transformer import transformer_

if TYPE_CHECKING:
    from torch import Tensor

    from svd_local.engine.fused.passes import Passes
    from svd_local.engine.fused.resblock import Biases
    from svd_local.engine.fused.transformer import TransformerConstants
    from svd_local.engine.fused.weights import Affine, Stage, UNetWeights


@dataclass(frozen=True, slots=True)
class StepConstants:
    """What one step knows beforehand, by the slots of resblocks and transformers."""

    biases: tuple[Biases, ...]
    transformers: tuple[TransformerConstants, ...]


class SkipStore(Protocol):
    """Where the down path's results wait for the up path, last in, first out."""

    def push(self, skip: Tensor) -> None:
        """Keep ``skip``, which nobody changes any more."""

    def pop(self) -> Tensor:
        """The latest one, on the device or in host memory."""

    def size(self) -> tuple[int, int] | None:
        """Height and width of the latest one; None when none is left."""


class ResidentSkips:
    """Keeps the tensors as they are."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def push(self, skip: Tensor) -> None:
        """Keep ``skip``."""
        self._kept.append(skip)

    def pop(self) -> Tensor:
        """The latest one."""
        return self._kept.pop()

    def size(self) -> tuple[int, int] | None:
        """Height and width of the latest one; None when none is left."""
        if not self._kept:
            return None
        height, width = self._kept[-1].shape[2:4]
        return height, width


def features(
    x: Tensor, weights: UNetWeights, constants: StepConstants, passes: Passes, skips: SkipStore
) -> Tensor:
    """From conv_in's output (b, f, h, w, c) to conv_out's input of the same shape."""
    x = _down_and_middle(x, weights, constants, passes, skips)
    for stage in weights.up:
        x = _up(x, stage, constants, passes, skips)
    return _normed_(x, weights, passes)


def _down_and_middle(
    x: Tensor, weights: UNetWeights, constants: StepConstants, passes: Passes, skips: SkipStore
) -> Tensor:
    skips.push(x)
    for stage in weights.down:
        for block, transformer in stage.layers:
            x = resblock((x,), block, constants.biases[block.slot], passes)
            if transformer is not None:
                transformer_(x, transformer, constants.transformers[transformer.slot], passes)
            skips.push(x)
        if stage.downsample is not None:
            x = _downsample(x, stage.downsample, passes)
            skips.push(x)
    for block, transformer in weights.mid.layers:
        x = resblock((x,), block, constants.biases[block.slot], passes)
        if transformer is not None:
            transformer_(x, transformer, constants.transformers[transformer.slot], passes)
    return x


def _up(
    x: Tensor, stage: Stage, constants: StepConstants, passes: Passes, skips: SkipStore
) -> Tensor:
    for block, transformer in stage.layers:
        x = resblock((x, skips.pop()), block, constants.biases[block.slot], passes)
        if transformer is not None:
            transformer_(x, transformer, constants.transformers[transformer.slot], passes)
    if stage.upsample is not None:
        # The next skip has the size that this one was halved from, odd or even.
        size = skips.size()
        assert size is not None
        x = upsample(x, stage.upsample, size, passes)
    return x


def _downsample(x: Tensor, weights: Affine, passes: Passes) -> Tensor:
    slices = passes.over_frames(x.shape[1])
    if len(slices) == 1:
        return conv3x3(x, weights, stride=2)
    batch, frames, height, width, _ = x.shape
    size = ((height + 1) // 2, (width + 1) // 2)
    out = x.new_empty(batch, frames, *size, weights.weight.shape[0])
    for chosen in slices:
        out[:, chosen] = conv3x3(x[:, chosen], weights, stride=2)
    return out


def _normed_(x: Tensor, weights: UNetWeights, passes: Passes) -> Tensor:
    """The last norm and SiLU; in place where it is done in several passes."""
    slices = passes.over_frames(x.shape[1])
    for chosen in slices:
        piece = x[:, chosen]
        normed = group_norm_silu(as_frame_rows(piece), weights.norm_out).view(piece.shape)
        if len(slices) == 1:
            return normed
        x[:, chosen] = normed
    return x
