"""The fused step with one saving undone, to see what each is worth by itself.

Each entry of `SAVINGS` changes the engine's functions for as long as it is entered, so that one saving is
undone the way diffusers has it, and the step's result stays the same to rounding (a test sees to that).
They look at whole passes over both halves of guidance, as the fastest plan runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.subject import Subject
from svd_local.engine.fused import network, norms, resblock, transformer
from svd_local.engine.fused.conditioning import _mlp, _wide
from svd_local.engine.fused.layout import (
    as_clip_rows,
    as_images,
    as_time,
    from_images,
    from_time,
)
from svd_local.engine.fused.norms import group_norm_silu
from svd_local.engine.fused.ops import (
    add_projected_,
    attend,
    attend_over_frames,
    conv3x3,
    convolve,
    feed_forward,
    layer_norm,
    linear,
)
from svd_local.engine.fused.unet import FusedUNet
from svd_local.engine.fused.weights import ResBlock, Transformer

Undo = Callable[[Subject], AbstractContextManager[None]]


@dataclass(frozen=True)
class Saving:
    """What the fused step does, and how to do without."""

    name: str
    undo: Undo
    devices: tuple[str, ...] = ("cpu", "cuda")


@contextlib.contextmanager
def cross_attention(subject: Subject) -> Iterator[None]:
    """Query, key, value, softmax over one token and output at every position, of normed tokens."""
    frames = subject.size.frames
    blocks: dict[int, Any] = {}
    for folded, module in zip(
        _transformers(subject), _reference(subject, "attentions"), strict=True
    ):
        pairs = zip(module.transformer_blocks, module.temporal_transformer_blocks, strict=True)
        for (still, moving), (spatial, temporal) in zip(folded.blocks, pairs, strict=True):
            blocks |= {id(still): spatial, id(moving): temporal}

    def cross(rows: Tensor, context: Tensor, block: Any) -> Tensor:
        """Of (items, tokens, c) to one context token for each item."""
        attention = block.attn2
        items, tokens, _ = rows.shape
        heads = (items, -1, attention.heads, attention.inner_dim // attention.heads)
        query = attention.to_q(block.norm2(rows)).view(heads).transpose(1, 2)
        key, value = (
            to(context).view(heads).transpose(1, 2) for to in (attention.to_k, attention.to_v)
        )
        mixed = attend(query, key, value).transpose(1, 2).reshape(items, tokens, -1)
        return cast(Tensor, attention.to_out[0](mixed))

    def spatial_block_(x: Tensor, weights: Any, _: Tensor) -> None:
        block, batch, positions = blocks[id(weights)], x.shape[0], x.shape[2]
        qkv = linear(layer_norm(x, weights.norm1), weights.attention.qkv)
        qkv = qkv.view(batch * frames, positions, 3, weights.attention.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(query, key, value).transpose(1, 2).reshape(x.shape)
        x.add_(linear(mixed, weights.attention.out))
        context = subject.context.repeat_interleave(frames, dim=0)
        x.add_(cross(x.flatten(0, 1), context, block).view(x.shape))
        x.add_(feed_forward(layer_norm(x, weights.norm3), weights.feed_forward))

    def temporal_block_(x: Tensor, weights: Any, _: Tensor) -> None:
        block, (batch, positions, channels) = blocks[id(weights)], (x.shape[i] for i in (0, 2, 3))
        x.add_(feed_forward(layer_norm(x, weights.norm_in), weights.feed_forward_in))
        attention = weights.attention
        qkv = linear(layer_norm(x, weights.norm1), attention.qkv)
        for item in range(batch):
            one = slice(item, item + 1)
            mixed = attend_over_frames(qkv[one], attention.heads)
            add_projected_(x[one], mixed, attention.out, attention.out.bias[None])
        # diffusers makes positions the batch, and repeats the context for each.
        rows = x.transpose(1, 2).reshape(batch * positions, frames, channels)
        added = cross(rows, subject.context.repeat_interleave(positions, dim=0), block)
        x.add_(added.view(batch, positions, frames, channels).transpose(1, 2))
        x.add_(feed_forward(layer_norm(x, weights.norm3), weights.feed_forward))

    with (
        mock.patch.object(transformer, "spatial_block_", spatial_block_),
        mock.patch.object(transformer, "temporal_block_", temporal_block_),
    ):
        yield


@contextlib.contextmanager
def enlargement(_: Subject) -> Iterator[None]:
    """Enlarge, then convolve the enlarged map."""

    def upsample(x: Tensor, weights: Any, size: tuple[int, int], _: object) -> Tensor:
        enlarged = functional.interpolate(as_images(x), size=size, mode="nearest")
        return conv3x3(from_images(enlarged, x.shape[0]), weights.conv)

    with mock.patch.object(network, "upsample", upsample):
        yield


@contextlib.contextmanager
def time_biases(subject: Subject) -> Iterator[None]:
    """The embedding of every step, its projection for each resblock and frame, an addition after conv1."""
    conditioning, batch = subject.fused.conditioning, len(subject.context)
    layers = [block for block, _ in _layers(subject)]
    projections = {
        id(half): projection
        for block in layers
        for half, projection in zip(
            (block.spatial, block.temporal), conditioning.residuals[block.slot], strict=True
        )
    }
    embedded: list[Tensor] = []
    features = FusedUNet._features

    def with_embedding(
        self: FusedUNet, latents: Tensor, clip: Any, step: int, deep: Any = None
    ) -> Tensor:
        wide = _wide(conditioning.time_mlp.first.weight)
        time = conditioning.time(subject.timesteps[step : step + 1]).to(wide)
        added = conditioning.added(subject.ids[:1].flatten()).to(wide).reshape(1, -1)
        embedding = _mlp(time, conditioning.time_mlp) + _mlp(added, conditioning.added_mlp)
        rows = embedding.to(latents.dtype).repeat(batch * subject.size.frames, 1)
        embedded[:] = [rows]
        return features(self, latents, clip, step, deep)

    def time_of(weights: Any) -> Tensor:
        """(b * f, channels)."""
        projection, own = projections[id(weights)], weights.conv1.bias
        bias = (projection.bias - own).to(own.dtype)
        return functional.linear(functional.silu(embedded[0]), projection.weight, bias)

    def spatial(x: Tensor, weights: Any, _: Tensor) -> Tensor:
        h = resblock._normed(x, weights.norm1)
        h = from_images(
            convolve(as_images(h), weights.conv1.weight, weights.conv1.bias[None], (1, 1)), batch
        )
        h = h + time_of(weights).view(*x.shape[:2], 1, 1, -1)
        h = resblock._normed(h, weights.norm2)
        out = convolve(as_images(h), weights.conv2.weight, weights.conv2.bias[None], (1, 1))
        return from_images(out, batch).add_(
            x if weights.shortcut is None else linear(x, weights.shortcut)
        )

    def across_clip_(x: Tensor, weights: Any, _: Tensor) -> None:
        h = group_norm_silu(as_clip_rows(x), weights.norm1).view(x.shape)
        h = from_time(convolve(as_time(h), weights.conv1.weight, weights.conv1.bias[None], (1, 0)))
        h = h + time_of(weights).view(*x.shape[:2], 1, -1)
        h = group_norm_silu(as_clip_rows(h), weights.norm2).view(x.shape)
        x.add_(
            from_time(convolve(as_time(h), weights.conv2.weight, weights.conv2.bias[None], (1, 0)))
        )

    with (
        mock.patch.object(FusedUNet, "_features", with_embedding),
        mock.patch.object(resblock, "spatial", spatial),
        mock.patch.object(resblock, "_across_clip_", across_clip_),
    ):
        yield


@contextlib.contextmanager
def frame_places(subject: Subject) -> Iterator[None]:
    """The little networks over the frames' places, of each transformer, at every step."""
    conditioning, frames = subject.fused.conditioning, subject.size.frames
    of = {id(folded): conditioning.transformers[folded.slot] for folded in _transformers(subject)}
    transformer_ = transformer.transformer_

    def with_places(x: Tensor, weights: Any, constants: Any, *more: Any) -> None:
        mlp = of[id(weights)]
        order = torch.arange(frames, device=x.device).repeat(x.shape[0])
        rows = _mlp(mlp.place(order).to(_wide(x)), mlp.frames)[:frames].to(x.dtype)
        places = transformer.TransformerConstants(rows, constants.contexts)
        transformer_(x, weights, places, *more)

    with mock.patch.object(network, "transformer_", with_places):
        yield


@contextlib.contextmanager
def mix_factors(subject: Subject) -> Iterator[None]:
    """Blend the temporal half's result with its input, instead of scaling its last convolution."""
    shares = {}
    for (block, _), module in zip(_layers(subject), _reference(subject, "resnets"), strict=True):
        conv = module.temporal_res_block.conv2
        spatial_share = module.time_mixer.get_alpha(
            torch.zeros(2, subject.size.frames, device=subject.size.device), 5
        )
        weight = conv.weight.squeeze(-1).contiguous(memory_format=torch.channels_last)
        shares[id(block.temporal)] = weight, conv.bias, spatial_share.flatten()[0]

    def temporal_(x: Tensor, weights: Any, bias: Tensor, _: object) -> None:
        weight, own, alpha = shares[id(weights)]
        h = group_norm_silu(as_clip_rows(x), weights.norm1).view(x.shape)
        h = from_time(convolve(as_time(h), weights.conv1.weight, bias, (1, 0)))
        h = group_norm_silu(as_clip_rows(h), weights.norm2).view(x.shape)
        h = from_time(convolve(as_time(h), weight, own[None], (1, 0)))
        alpha = alpha.to(x.dtype)
        x.copy_(alpha * x + (1.0 - alpha) * (x + h))

    with mock.patch.object(network, "temporal_", temporal_):
        yield


@contextlib.contextmanager
def one_product(_: Subject) -> Iterator[None]:
    """Query, key and value one after another."""

    def spatial_block_(x: Tensor, weights: Any, bias: Tensor) -> None:
        batch, frames, positions, _ = x.shape
        normed = layer_norm(x, weights.norm1)
        heads = (batch * frames, positions, weights.attention.heads, -1)
        query, key, value = (
            functional.linear(normed, part).view(heads).transpose(1, 2)
            for part in weights.attention.qkv.weight.chunk(3)
        )
        mixed = attend(query, key, value).transpose(1, 2).reshape(batch, frames, positions, -1)
        add_projected_(x, mixed, weights.attention.out, bias)
        x.add_(feed_forward(layer_norm(x, weights.norm3), weights.feed_forward))

    def attend_over_frames_(x: Tensor, normed: Tensor, weights: Any, bias: Tensor) -> Tensor:
        frames, positions = x.shape[1:3]
        attention = weights.attention
        parts = [functional.linear(normed, part) for part in attention.qkv.weight.chunk(3)]
        for item in range(x.shape[0]):
            query, key, value = (
                part[item].view(frames, positions, attention.heads, -1).permute(1, 2, 0, 3)
                for part in parts
            )
            mixed = attend(query, key, value).permute(2, 0, 1, 3).reshape(frames, positions, -1)
            row = bias[item if bias.shape[0] > 1 else 0]
            x[item].add_(functional.linear(mixed, attention.out.weight, row))
        return layer_norm(x, weights.norm3)

    with (
        mock.patch.object(transformer, "spatial_block_", spatial_block_),
        mock.patch.object(transformer, "_attend_over_frames_", attend_over_frames_),
    ):
        yield


@contextlib.contextmanager
def split_conv_in(subject: Subject) -> Iterator[None]:
    """Latents and the repeated image latents joined, and convolved together for both halves."""
    images = subject.image[:, None].repeat(1, subject.size.frames, 1, 1, 1)
    affine = subject.fused.weights.conv_in

    def joined(self: FusedUNet, latents: Tensor, clip: Any, step: int, deep: Any = None) -> Tensor:
        sample = torch.cat([torch.cat([latents] * 2), images], dim=2)
        convolved = functional.conv2d(sample.flatten(0, 1), affine.weight, affine.bias, padding=1)
        return network.features(
            from_images(convolved, 2), self.weights, clip.at(step), self.passes, self.skips()
        )

    with mock.patch.object(FusedUNet, "_features", joined):
        yield


@contextlib.contextmanager
def guidance_first(_: Subject) -> Iterator[None]:
    """conv_out for both halves, then the mix."""

    def step(self: FusedUNet, latents: Tensor, clip: Any, number: int, deep: Any = None) -> Tensor:
        plain, guided = self._conv_out(self._features(latents, clip, number, deep)).chunk(2)
        return cast(Tensor, plain + clip.guidance[None, :, None, None, None] * (guided - plain))

    with mock.patch.object(FusedUNet, "step", step):
        yield


@contextlib.contextmanager
def flat_time(_: Subject) -> Iterator[None]:
    """Temporal convolutions in three dimensions over (batch, channels, frames, positions, 1)."""

    def across_clip_(x: Tensor, weights: Any, bias: Tensor) -> None:
        h = group_norm_silu(as_clip_rows(x), weights.norm1).view(x.shape)
        h = deep(h, weights.conv1.weight, bias)
        h = group_norm_silu(as_clip_rows(h), weights.norm2).view(x.shape)
        x.add_(deep(h, weights.conv2.weight, weights.conv2.bias[None]))

    def deep(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        volume = x.permute(0, 3, 1, 2).contiguous()[..., None]
        out = functional.conv3d(volume, weight.contiguous()[..., None], bias[0], padding=(1, 0, 0))
        return out[..., 0].permute(0, 2, 3, 1).contiguous()

    with mock.patch.object(resblock, "_across_clip_", across_clip_):
        yield


@contextlib.contextmanager
def channels_last(_: Subject) -> Iterator[None]:
    """Spatial convolutions over (items, channels, height, width): a permutation before and after each."""

    def plain(images: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> Tensor:
        if padding != (1, 1):
            return convolve(images, weight, bias, padding)
        return convolve(images.contiguous(), weight.contiguous(), bias, padding)

    def plain_for_norm(*given: Any) -> tuple[Tensor, None]:
        return plain(*given), None

    with (
        mock.patch.object(resblock, "convolve", plain),
        mock.patch.object(resblock, "convolve_for_norm", plain_for_norm),
    ):
        yield


@contextlib.contextmanager
def own_norm(_: Subject) -> Iterator[None]:
    """Torch's group norm, which wants channels before positions."""

    def by_torch(rows: Tensor, norm: Any, _: Any = None, *, silu: bool) -> Tensor:
        return norms._by_torch(rows, norm, silu=silu)

    with mock.patch.object(norms, "_normalise", by_torch):
        yield


SAVINGS = (
    Saving("cross-attention to one token is a constant", cross_attention),
    Saving("enlarging and convolving as four convolutions of the small map", enlargement),
    Saving("time embeddings in tables of biases", time_biases),
    Saving("frame places worked out once a clip", frame_places),
    Saving("mix factors folded into a convolution", mix_factors),
    Saving("query, key and value in one product", one_product),
    Saving("image half of conv_in once a clip", split_conv_in),
    Saving("guidance mixed before conv_out", guidance_first),
    Saving("temporal convolutions in two dimensions", flat_time),
    Saving("spatial convolutions without permutations", channels_last),
    Saving("group norm over rows", own_norm, devices=("cpu",)),
)


def _layers(subject: Subject) -> Iterator[tuple[ResBlock, Transformer | None]]:
    weights = subject.fused.weights
    for stage in (*weights.down, weights.mid, *weights.up):
        yield from stage.layers


def _transformers(subject: Subject) -> list[Transformer]:
    return [folded for _, folded in _layers(subject) if folded is not None]


def _reference(subject: Subject, kind: str) -> list[Any]:
    """The reference's resblocks or transformers in the order of a run."""
    model: Any = subject.unet
    blocks = (*model.down_blocks, model.mid_block, *model.up_blocks)
    return [module for block in blocks for module in getattr(block, kind, None) or ()]
