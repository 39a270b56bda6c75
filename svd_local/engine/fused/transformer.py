"""The spatio-temporal transformer over (b, f, h, w, c), added to its input in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from svd_local.engine.fused.kernels.choice import takes_frames
from svd_local.engine.fused.layout import as_frame_rows, as_tokens
from svd_local.engine.fused.norms import group_norm
from svd_local.engine.fused.ops import (
    add_projected_,
    add_projected_and_norm_,
    attend,
    attend_over_frames,
    feed_forward,
    geglu,
    layer_norm,
    linear,
    linear_,
)
from svd_local.engine.fused.regions import region
from svd_local.engine.fused.supply import AT_HAND

if TYPE_CHECKING:
    from torch import Tensor

    from svd_local.engine.fused.passes import Passes
    from svd_local.engine.fused.supply import Supply
    from svd_local.engine.fused.weights import (
        Entry,
        SpatialBlock,
        TemporalBlock,
        Transformer,
    )


@dataclass(frozen=True, slots=True)
class TransformerConstants:
    """What a transformer adds that never changes within a clip.

    Attributes:
        frames: embedding of each frame's place, (f, c).
        contexts: for each pair of blocks, the bias of the spatial and of the temporal attention's
            output, cross-attention included: (rows, c) each.
    """

    frames: Tensor
    contexts: tuple[tuple[Tensor, Tensor], ...]


def transformer_(
    x: Tensor,
    weights: Transformer,
    constants: TransformerConstants,
    passes: Passes,
    supply: Supply = AT_HAND,
) -> None:
    """Add the transformer's result to ``x`` (b, f, h, w, c) in place."""
    _, count, height, width, _ = x.shape
    inner = weights.entry.proj.weight.shape[0]
    frames = passes.slices(count, height * width * inner)
    positions = passes.slices(height * width, count * inner)
    tokens = _project_in(x, supply.bring(weights.entry), frames)
    for block, (spatial, temporal) in enumerate(weights.blocks):
        spatial_bias, temporal_bias = constants.contexts[block]
        _among_positions_(tokens, supply.bring(spatial), spatial_bias, frames)
        _among_frames_(tokens, supply.bring(temporal), temporal_bias, constants.frames, positions)
    flat, proj_out = as_tokens(x), supply.bring(weights.proj_out)
    for chosen in frames:
        flat[:, chosen] += linear(tokens[:, chosen], proj_out)


def _among_positions_(
    tokens: Tensor, weights: SpatialBlock, bias: Tensor, frames: list[slice]
) -> None:
    for chosen in frames:
        spatial_block_(tokens[:, chosen], weights, bias)


def _among_frames_(
    tokens: Tensor, weights: TemporalBlock, bias: Tensor, places: Tensor, positions: list[slice]
) -> None:
    """The temporal block on the tokens with their frame's place, mixed into them."""
    for chosen in positions:
        _mix_in_(tokens[:, :, chosen], weights, bias, places)


@region
def _mix_in_(still: Tensor, weights: TemporalBlock, bias: Tensor, places: Tensor) -> None:
    moving = still + places[:, None]
    temporal_block_(moving, weights, bias)
    still.lerp_(moving, weights.share)


def _project_in(x: Tensor, weights: Entry, slices: list[slice]) -> Tensor:
    if len(slices) == 1:
        return _normed_tokens(x, weights)
    batch, frames, height, width, _ = x.shape
    tokens = x.new_empty(batch, frames, height * width, weights.proj.weight.shape[0])
    for chosen in slices:
        tokens[:, chosen] = _normed_tokens(x[:, chosen], weights)
    return tokens


@region
def _normed_tokens(x: Tensor, weights: Entry) -> Tensor:
    normed = group_norm(as_frame_rows(x), weights.norm)
    return linear(normed, weights.proj).view(*x.shape[:2], normed.shape[1], -1)


@region
def spatial_block_(x: Tensor, weights: SpatialBlock, bias: Tensor) -> None:
    """Attention among each frame's positions and feed-forward, on (b, f, n, c) in place."""
    batch, frames, positions, _ = x.shape
    heads, out = weights.attention.heads, weights.attention.out
    qkv = linear_(layer_norm(x, weights.norm1), weights.attention.qkv)
    qkv = qkv.view(batch * frames, positions, 3, heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    mixed = attend(query, key, value).transpose(1, 2).reshape(batch, frames, positions, -1)
    normed = add_projected_and_norm_(x, mixed, out, bias, weights.norm3)
    del qkv, query, key, value, mixed  # the feed-forward needs all the room there is
    x.add_(feed_forward(normed, weights.feed_forward))


def temporal_block_(x: Tensor, weights: TemporalBlock, bias: Tensor) -> None:
    """Feed-forward, attention among each position's frames, feed-forward, on (b, f, n, c) in place."""
    first = weights.feed_forward_in
    assert first.out.bias is not None
    hidden = geglu(layer_norm(x, weights.norm_in), first.proj)
    normed = add_projected_and_norm_(x, hidden, first.out, first.out.bias[None], weights.norm1)
    del hidden
    normed = _attend_over_frames_(x, normed, weights, bias)
    x.add_(feed_forward(normed, weights.feed_forward))


def _attend_over_frames_(x: Tensor, normed: Tensor, weights: TemporalBlock, bias: Tensor) -> Tensor:
    """Add the attention of ``normed`` to ``x``, and give the norm of the sum."""
    heads, out = weights.attention.heads, weights.attention.out
    qkv = linear_(normed, weights.attention.qkv)
    if takes_frames(qkv, heads):
        mixed = attend_over_frames(qkv, heads)
        del qkv
        return add_projected_and_norm_(x, mixed, out, bias, weights.norm3)
    for item in range(x.shape[0]):
        one = slice(item, item + 1)
        row = bias[one] if bias.shape[0] > 1 else bias
        add_projected_(x[one], attend_over_frames(qkv[one], heads), out, row)
    return layer_norm(x, weights.norm3)
