"""The UNet between conv_in and conv_out, at one step, over (b, f, h, w, c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from svd_local.engine.fused.layout import as_frame_rows, as_tokens
from svd_local.engine.fused.norms import group_norm_silu
from svd_local.engine.fused.ops import conv3x3
from svd_local.engine.fused.resample import upsample
from svd_local.engine.fused.resblock import joined_spatial, temporal_
from svd_local.engine.fused.supply import AT_HAND
from svd_local.engine.fused.transformer import transformer_
from svd_local.engine.fused.weights import Affine

if TYPE_CHECKING:
    from torch import Tensor

    from svd_local.engine.fused.deep_cache import DeepFeature
    from svd_local.engine.fused.passes import Passes
    from svd_local.engine.fused.resblock import Biases
    from svd_local.engine.fused.skips import SkipStore
    from svd_local.engine.fused.supply import Supply
    from svd_local.engine.fused.transformer import TransformerConstants
    from svd_local.engine.fused.weights import ResBlock, Transformer, UNetWeights, Upsample


@dataclass(frozen=True, slots=True)
class StepConstants:
    """What one step knows beforehand, by the slots of resblocks and transformers."""

    biases: tuple[Biases, ...]
    transformers: tuple[TransformerConstants, ...]


def features(
    x: Tensor,
    weights: UNetWeights,
    constants: StepConstants,
    passes: Passes,
    skips: SkipStore,
    supply: Supply = AT_HAND,
    deep: DeepFeature | None = None,
) -> Tensor:
    """From conv_in's output (b, f, h, w, c) to conv_out's input of the same shape.

    Where ``deep`` holds a feature, only its depth is gone down and up; where it does not, it is given one.

    One function, because a caller's variable would keep each stage's input alive to its end; and each
    layer in two calls, so that its input is let go as soon as the spatial half is done.

    Raises:
        ValueError: ``deep`` goes deeper than the network.
    """
    down, up = _way_down(weights), _way_up(weights)
    shallow = deep is not None and deep.is_kept
    entry = 0 if deep is None else len(up) - 1 - deep.depth
    if entry < 0:
        raise ValueError(f"a cache of more than {len(up) - 1} results of the way down")
    skips.push(x)
    for part in down[: deep.depth] if deep is not None and shallow else down:
        if isinstance(part, Affine):
            x = _downsample(x, supply.bring(part), passes)
        else:
            x = _spatial_half((x,), part[0], constants, passes, supply)
            _rest_(x, *part, constants, passes, supply)
        skips.push(x)
    if deep is not None and shallow:
        x = deep.kept(x.device)
    else:
        for block, transformer in weights.mid.layers:
            x = _spatial_half((x,), block, constants, passes, supply)
            _rest_(x, block, transformer, constants, passes, supply)
    for index in range(entry if shallow else 0, len(up)):
        if deep is not None and index == entry:
            deep.keep(skips.outlasting(x))
        block, transformer, enlarge = up[index]
        x = _spatial_half((x, skips.pop()), block, constants, passes, supply)
        _rest_(x, block, transformer, constants, passes, supply)
        if enlarge is not None:
            # The next skip has the size that this one was halved from, odd or even.
            size = skips.size()
            assert size is not None
            x = upsample(x, supply.bring(enlarge), size, passes)
    return _normed_(x, weights, passes)


def _way_down(weights: UNetWeights) -> list[Affine | tuple[ResBlock, Transformer | None]]:
    """Layers and downsamplings in order; each leaves a skip."""
    parts: list[Affine | tuple[ResBlock, Transformer | None]] = []
    for stage in weights.down:
        parts += stage.layers
        parts += [] if stage.downsample is None else [stage.downsample]
    return parts


def _way_up(weights: UNetWeights) -> list[tuple[ResBlock, Transformer | None, Upsample | None]]:
    """Layers in order, each of which takes a skip, with the enlargement that follows."""
    parts: list[tuple[ResBlock, Transformer | None, Upsample | None]] = []
    for stage in weights.up:
        last = len(stage.layers) - 1
        parts += [
            (*layer, stage.upsample if index == last else None)
            for index, layer in enumerate(stage.layers)
        ]
    return parts


def _spatial_half(
    parts: tuple[Tensor, ...],
    block: ResBlock,
    constants: StepConstants,
    passes: Passes,
    supply: Supply,
) -> Tensor:
    weights = supply.bring(block.spatial)
    return joined_spatial(parts, weights, constants.biases[block.slot][0], passes)


def _rest_(
    x: Tensor,
    block: ResBlock,
    transformer: Transformer | None,
    constants: StepConstants,
    passes: Passes,
    supply: Supply,
) -> None:
    """The temporal half and the transformer, in place."""
    weights = supply.bring(block.temporal)
    temporal_(as_tokens(x), weights, constants.biases[block.slot][1], passes)
    if transformer is not None:
        transformer_(x, transformer, constants.transformers[transformer.slot], passes, supply)


def _downsample(x: Tensor, weights: Affine, passes: Passes) -> Tensor:
    batch, frames, height, width, channels = x.shape
    slices = passes.slices(frames, height * width * channels)
    if len(slices) == 1:
        return conv3x3(x, weights, stride=2)
    size = ((height + 1) // 2, (width + 1) // 2)
    out = x.new_empty(batch, frames, *size, weights.weight.shape[0])
    for chosen in slices:
        out[:, chosen] = conv3x3(x[:, chosen], weights, stride=2)
    return out


def _normed_(x: Tensor, weights: UNetWeights, passes: Passes) -> Tensor:
    """The last norm and SiLU; in place where it is done in several passes."""
    _, frames, height, width, channels = x.shape
    slices = passes.slices(frames, height * width * channels)
    for chosen in slices:
        piece = x[:, chosen]
        normed = group_norm_silu(as_frame_rows(piece), weights.norm_out).view(piece.shape)
        if len(slices) == 1:
            return normed
        x[:, chosen] = normed
    return x
