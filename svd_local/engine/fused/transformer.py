"""The spatio-temporal transformer over (b, f, h, w, c), added to its input in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from svd_local.engine.fused.layout import as_frame_rows, as_tokens
from svd_local.engine.fused.norms import group_norm
from svd_local.engine.fused.ops import attend, feed_forward, layer_norm, linear, linear_
from svd_local.engine.fused.regions import region
from svd_local.engine.fused.supply import AT_HAND

if TYPE_CHECKING:
    from torch import Tensor

    from svd_local.engine.fused.passes import Passes
    from svd_local.engine.fused.supply import Supply
    from svd_local.engine.fused.weights import (
        Affine,
        Attention,
        Entry,
        Fp8Affine,
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
    heads = weights.attention.heads
    qkv = linear_(layer_norm(x, weights.norm1), weights.attention.qkv)
    qkv = qkv.view(batch * frames, positions, 3, heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    mixed = attend(query, key, value).transpose(1, 2).reshape(batch, frames, positions, -1)
    _add_with_bias_(x, mixed, weights.attention.out, bias)
    x.add_(feed_forward(layer_norm(x, weights.norm3), weights.feed_forward))


def temporal_block_(x: Tensor, weights: TemporalBlock, bias: Tensor) -> None:
    """Feed-forward, attention among each position's frames, feed-forward, on (b, f, n, c) in place."""
    x.add_(feed_forward(layer_norm(x, weights.norm_in), weights.feed_forward_in))
    _attend_over_frames_(x, layer_norm(x, weights.norm1), weights.attention, bias)
    x.add_(feed_forward(layer_norm(x, weights.norm3), weights.feed_forward))


def _attend_over_frames_(x: Tensor, normed: Tensor, weights: Attention, bias: Tensor) -> None:
    """Each batch item by itself, because then the heads are a strided view of the product."""
    frames, positions = x.shape[1:3]
    qkv = linear_(normed, weights.qkv)
    for item in range(x.shape[0]):
        heads = qkv[item].view(frames, positions, 3, weights.heads, -1)
        query, key, value = heads.permute(2, 1, 3, 0, 4).unbind(0)
        # The result's memory is ordered as the query's is, so this costs no copy either.
        mixed = attend(query, key, value).permute(2, 0, 1, 3).reshape(frames, positions, -1)
        row = bias[item if bias.shape[0] > 1 else 0]
        x[item].add_(linear_(mixed, weights.out, row))


def _add_with_bias_(x: Tensor, y: Tensor, layer: Affine | Fp8Affine, bias: Tensor) -> None:
    """Add y @ weight^T + bias to x in place; the bias may differ from one batch item to the next."""
    if bias.shape[0] == 1:
        x.add_(linear_(y, layer, bias[0]))
        return
    for item in range(x.shape[0]):
        x[item].add_(linear_(y[item], layer, bias[item]))
