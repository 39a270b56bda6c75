"""The folded networks as values: frozen trees of tensors, without behaviour.

Every convolution is two-dimensional with its weight in channels-last order, every 1x1 convolution is a
linear layer, and what never changes within a clip (time and frame embeddings, cross-attention) is not
here but in `conditioning`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Affine:
    """A linear layer (out, in) or a convolution (out, in, kernel, kernel) and its bias (out,)."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class Fp8Affine:
    """A linear layer in 8 bits, see `fp8`.

    Attributes:
        weight: (out, in) in float8_e4m3fn; times ``scale``, a single-precision scalar, it is the layer's.
        bias: (out,) in the working precision.
        inverse: scalar in the working precision, what every input is multiplied by before it is
            rounded; None where that follows from the input.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    inverse: Tensor | None


@dataclass(frozen=True, slots=True)
class Norm:
    """A group norm over ``groups`` groups of channels, or a layer norm where ``groups`` is 1."""

    weight: Tensor
    bias: Tensor
    eps: float
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Residual:
    """One half of a resblock: norm, SiLU, conv1, norm, SiLU, conv2, plus its input.

    conv1 is 3x3 in the spatial half and (3, 1) over (frames, positions) in the temporal one, where
    conv2 carries the mix factor.
    """

    norm1: Norm
    conv1: Affine
    norm2: Norm
    conv2: Affine
    shortcut: Affine | None


@dataclass(frozen=True, slots=True)
class ResBlock:
    """A spatial and a temporal residual; ``slot`` is its place among the clip's constants."""

    spatial: Residual
    temporal: Residual
    slot: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Self-attention: query, key and value as one product (3 * inner, channels)."""

    qkv: Affine | Fp8Affine
    out: Affine | Fp8Affine
    heads: int


@dataclass(frozen=True, slots=True)
class FeedForward:
    """GEGLU: one product for value and gate (2 * inner, channels), then (channels, inner)."""

    proj: Affine | Fp8Affine
    out: Affine | Fp8Affine


@dataclass(frozen=True, slots=True)
class SpatialBlock:
    """Attention among the positions of one frame, then a feed-forward."""

    norm1: Norm
    attention: Attention
    norm3: Norm
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True)
class TemporalBlock:
    """A feed-forward, attention among the frames of one position, another feed-forward.

    ``share``, a scalar, is how much of its result the mix with its input takes.
    """

    norm_in: Norm
    feed_forward_in: FeedForward
    norm1: Norm
    attention: Attention
    norm3: Norm
    feed_forward: FeedForward
    share: Tensor


@dataclass(frozen=True, slots=True)
class Entry:
    """A transformer's group norm and the linear layer after it."""

    norm: Norm
    proj: Affine


@dataclass(frozen=True, slots=True)
class Transformer:
    """Spatial and temporal blocks in turn, between a way in and a way out."""

    entry: Entry
    blocks: tuple[tuple[SpatialBlock, TemporalBlock], ...]
    proj_out: Affine
    slot: int


@dataclass(frozen=True, slots=True)
class Upsample:
    """A nearest-neighbour enlargement and its 3x3 convolution.

    ``quarters`` are the four 2x2 convolutions equal to it where the enlargement is exactly twofold,
    in the order (top, left), (top, right), (bottom, left), (bottom, right) of the output pixels.
    """

    conv: Affine
    quarters: tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Stage:
    """One resolution of the network: layers, then a change of resolution where there is one."""

    layers: tuple[tuple[ResBlock, Transformer | None], ...]
    downsample: Affine | None = None
    upsample: Upsample | None = None


@dataclass(frozen=True, slots=True)
class UNetWeights:
    """The whole UNet, conv_in still in one piece over latent and image channels."""

    conv_in: Affine
    down: tuple[Stage, ...]
    mid: Stage
    up: tuple[Stage, ...]
    norm_out: Norm
    conv_out: Affine


@dataclass(frozen=True, slots=True)
class FrameAttention:
    """The decoder's attention among the positions of one frame, with its own norm and residual."""

    norm: Norm
    attention: Attention


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """A resblock, and what each frame goes through before it."""

    before: FrameAttention | Upsample | None
    block: ResBlock


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """The decoder as one row of layers between conv_in and the way out."""

    conv_in: Affine
    layers: tuple[DecoderLayer, ...]
    norm_out: Norm
    conv_out: Affine
    time_conv_out: Affine


def parts_in_order(weights: UNetWeights) -> Iterator[Any]:
    """What is used at once, in the order of a run, between conv_in and the way out."""
    for stage in (*weights.down, weights.mid, *weights.up):
        for block, transformer in stage.layers:
            yield block.spatial
            yield block.temporal
            if transformer is not None:
                yield transformer.entry
                for pair in transformer.blocks:
                    yield from pair
                yield transformer.proj_out
        if stage.downsample is not None:
            yield stage.downsample
        if stage.upsample is not None:
            yield stage.upsample


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor of a tree of the classes above, in a fixed order."""
    import torch

    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, tuple):
        for item in tree:
            yield from tensors(item)
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from tensors(getattr(tree, field.name))


def map_tensors(tree: T, change: Callable[[Tensor], Tensor]) -> T:
    """The same tree with every tensor replaced by ``change(tensor)``."""
    import torch

    if isinstance(tree, torch.Tensor):
        return change(tree)  # type: ignore[return-value]
    if isinstance(tree, tuple):
        return tuple(map_tensors(item, change) for item in tree)  # type: ignore[return-value]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {
            f.name: map_tensors(getattr(tree, f.name), change) for f in dataclasses.fields(tree)
        }
        return dataclasses.replace(tree, **fields)
    return tree
