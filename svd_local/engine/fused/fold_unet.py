"""From a `UNetSpatioTemporalConditionModel` to folded weights and conditioning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svd_local.engine.fused.conditioning import Conditioning, Context, Mlp, TransformerConditioning
from svd_local.engine.fused.fold_parts import (
    Folder,
    known_no_dropout,
    plain_attention,
    temporal_share,
)
from svd_local.engine.fused.unknown import UnknownPart, known, known_value, known_weight
from svd_local.engine.fused.weights import (
    Affine,
    Attention,
    Entry,
    FeedForward,
    ResBlock,
    SpatialBlock,
    Stage,
    TemporalBlock,
    Transformer,
    UNetWeights,
)

if TYPE_CHECKING:
    import torch
    from torch import nn


def fold_unet(unet: nn.Module, dtype: torch.dtype | None) -> tuple[UNetWeights, Conditioning]:
    """Check every part of ``unet`` and fold it.

    Weights that need no folding share the model's memory.

    Raises:
        UnknownPart: some part's arithmetic is not known.
    """
    return _UNetFolder(Folder(dtype)).fold(unet)


class _UNetFolder:
    """Walks the model in the order of execution and numbers resblocks and transformers."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._residuals: list[tuple[Affine, Affine]] = []
        self._transformers: list[TransformerConditioning] = []

    def fold(self, model: nn.Module) -> tuple[UNetWeights, Conditioning]:
        from diffusers import UNetSpatioTemporalConditionModel
        from diffusers.models.embeddings import Timesteps
        from torch import nn

        unet: Any = known(model, UNetSpatioTemporalConditionModel, "unet")
        folder = self._folder
        known(unet.conv_act, nn.SiLU, "unet.conv_act")
        weights = UNetWeights(
            conv_in=folder.convolution(unet.conv_in, "unet.conv_in", kernel=3),
            down=tuple(
                self._down(block, f"unet.down_blocks.{i}")
                for i, block in enumerate(unet.down_blocks)
            ),
            mid=self._mid(unet.mid_block, "unet.mid_block"),
            up=tuple(
                self._up(block, f"unet.up_blocks.{i}") for i, block in enumerate(unet.up_blocks)
            ),
            norm_out=folder.group_norm(unet.conv_norm_out, "unet.conv_norm_out"),
            conv_out=folder.convolution(unet.conv_out, "unet.conv_out", kernel=3),
        )
        conditioning = Conditioning(
            time=known(unet.time_proj, Timesteps, "unet.time_proj"),
            time_mlp=self._mlp(unet.time_embedding, "unet.time_embedding"),
            added=known(unet.add_time_proj, Timesteps, "unet.add_time_proj"),
            added_mlp=self._mlp(unet.add_embedding, "unet.add_embedding"),
            residuals=tuple(self._residuals),
            transformers=tuple(self._transformers),
        )
        return weights, conditioning

    def _down(self, block: nn.Module, part: str) -> Stage:
        from diffusers.models.unets.unet_3d_blocks import (
            CrossAttnDownBlockSpatioTemporal,
            DownBlockSpatioTemporal,
        )

        kind = CrossAttnDownBlockSpatioTemporal
        if type(block) is DownBlockSpatioTemporal:
            kind = DownBlockSpatioTemporal
        stage: Any = known(block, kind, part)
        downsample = None
        if stage.downsamplers is not None:
            downsample = self._downsample(stage.downsamplers, f"{part}.downsamplers")
        return Stage(self._layers(stage, part), downsample=downsample)

    def _downsample(self, modules: Any, part: str) -> Affine:
        from diffusers.models.downsampling import Downsample2D

        known_value(len(modules), 1, part)
        block: Any = known(modules[0], Downsample2D, f"{part}.0")
        known_value(block.norm, None, f"{part}.0.norm")
        return self._folder.convolution(block.conv, f"{part}.0.conv", kernel=3, stride=2)

    def _mid(self, block: nn.Module, part: str) -> Stage:
        """First resblock alone, then a transformer before each further one."""
        from diffusers.models.unets.unet_3d_blocks import UNetMidBlockSpatioTemporal

        mid: Any = known(block, UNetMidBlockSpatioTemporal, part)
        known_value(len(mid.attentions), len(mid.resnets) - 1, f"{part}.attentions")
        layers = []
        for i, resnet in enumerate(mid.resnets):
            folded = self._resblock(resnet, f"{part}.resnets.{i}")
            transformer = None
            if i < len(mid.attentions):
                transformer = self._transformer(mid.attentions[i], f"{part}.attentions.{i}")
            layers.append((folded, transformer))
        return Stage(tuple(layers))

    def _up(self, block: nn.Module, part: str) -> Stage:
        from diffusers.models.unets.unet_3d_blocks import (
            CrossAttnUpBlockSpatioTemporal,
            UpBlockSpatioTemporal,
        )

        kind = CrossAttnUpBlockSpatioTemporal
        if type(block) is UpBlockSpatioTemporal:
            kind = UpBlockSpatioTemporal
        stage: Any = known(block, kind, part)
        upsample = None
        if stage.upsamplers is not None:
            known_value(len(stage.upsamplers), 1, f"{part}.upsamplers")
            upsample = self._folder.upsample(stage.upsamplers[0], f"{part}.upsamplers.0")
        return Stage(self._layers(stage, part), upsample=upsample)

    def _layers(self, stage: Any, part: str) -> tuple[tuple[ResBlock, Transformer | None], ...]:
        attentions = getattr(stage, "attentions", None) or [None] * len(stage.resnets)
        known_value(len(attentions), len(stage.resnets), f"{part}.attentions")
        layers = []
        for i, (resnet, attention) in enumerate(zip(stage.resnets, attentions, strict=True)):
            folded = self._resblock(resnet, f"{part}.resnets.{i}")
            transformer = None
            if attention is not None:
                transformer = self._transformer(attention, f"{part}.attentions.{i}")
            layers.append((folded, transformer))
        return tuple(layers)

    def _resblock(self, module: nn.Module, part: str) -> ResBlock:
        from diffusers.models.resnet import SpatioTemporalResBlock

        block: Any = known(module, SpatioTemporalResBlock, part)
        share = temporal_share(block.time_mixer, f"{part}.time_mixer")
        spatial, temporal = f"{part}.spatial_res_block", f"{part}.temporal_res_block"
        folded = ResBlock(
            spatial=self._folder.spatial_residual(block.spatial_res_block, spatial),
            temporal=self._folder.temporal_residual(block.temporal_res_block, temporal, share),
            slot=len(self._residuals),
        )
        self._residuals.append(
            (
                self._time_bias(block.spatial_res_block, spatial),
                self._time_bias(block.temporal_res_block, temporal),
            )
        )
        return folded

    def _time_bias(self, block: Any, part: str) -> Affine:
        """The projection of the time embedding, with conv1's bias that it is added to."""
        if block.time_emb_proj is None:
            raise UnknownPart(f"{part}.time_emb_proj", "nothing", "a linear layer")
        projection = self._folder.linear(block.time_emb_proj, f"{part}.time_emb_proj")
        bias = known_weight(block.conv1.bias, part)
        return _with_bias(projection, block.time_emb_proj.bias, bias)

    def _transformer(self, module: nn.Module, part: str) -> Transformer:
        from diffusers.models.embeddings import Timesteps
        from diffusers.models.transformers.transformer_temporal import (
            TransformerSpatioTemporalModel,
        )

        model: Any = known(module, TransformerSpatioTemporalModel, part)
        known_value(
            len(model.temporal_transformer_blocks), len(model.transformer_blocks), f"{part}.blocks"
        )
        share = temporal_share(model.time_mixer, f"{part}.time_mixer")
        share = share.to(self._folder.dtype or model.proj_in.weight.dtype)
        blocks, contexts = [], []
        for i, spatial in enumerate(model.transformer_blocks):
            temporal = model.temporal_transformer_blocks[i]
            first = self._spatial_block(spatial, f"{part}.transformer_blocks.{i}")
            name = f"{part}.temporal_transformer_blocks.{i}"
            second = self._temporal_block(temporal, name, share)
            blocks.append((first[0], second[0]))
            contexts.append((first[1], second[1]))
        self._transformers.append(
            TransformerConditioning(
                place=known(model.time_proj, Timesteps, f"{part}.time_proj"),
                frames=self._mlp(model.time_pos_embed, f"{part}.time_pos_embed"),
                contexts=tuple(contexts),
            )
        )
        return Transformer(
            entry=Entry(
                norm=self._folder.group_norm(model.norm, f"{part}.norm"),
                proj=self._folder.linear(model.proj_in, f"{part}.proj_in"),
            ),
            blocks=tuple(blocks),
            proj_out=self._folder.linear(model.proj_out, f"{part}.proj_out"),
            slot=len(self._transformers) - 1,
        )

    def _spatial_block(self, module: nn.Module, part: str) -> tuple[SpatialBlock, Context]:
        from diffusers.models.attention import BasicTransformerBlock

        block: Any = known(module, BasicTransformerBlock, part)
        known_value(block.norm_type, "layer_norm", f"{part}.norm_type")
        known_value(block.pos_embed, None, f"{part}.pos_embed")
        known_value(block.only_cross_attention, False, f"{part}.only_cross_attention")
        known_value(hasattr(block, "fuser"), False, f"{part}.fuser")
        folded = SpatialBlock(
            norm1=self._folder.layer_norm(block.norm1, f"{part}.norm1"),
            attention=self._attention(block.attn1, f"{part}.attn1"),
            norm3=self._folder.layer_norm(block.norm3, f"{part}.norm3"),
            feed_forward=self._feed_forward(block.ff, f"{part}.ff"),
        )
        return folded, self._context(block, part)

    def _temporal_block(
        self, module: nn.Module, part: str, share: torch.Tensor
    ) -> tuple[TemporalBlock, Context]:
        from diffusers.models.attention import TemporalBasicTransformerBlock

        block: Any = known(module, TemporalBasicTransformerBlock, part)
        known_value(block.is_res, True, f"{part}.is_res")
        folded = TemporalBlock(
            norm_in=self._folder.layer_norm(block.norm_in, f"{part}.norm_in"),
            feed_forward_in=self._feed_forward(block.ff_in, f"{part}.ff_in"),
            norm1=self._folder.layer_norm(block.norm1, f"{part}.norm1"),
            attention=self._attention(block.attn1, f"{part}.attn1"),
            norm3=self._folder.layer_norm(block.norm3, f"{part}.norm3"),
            feed_forward=self._feed_forward(block.ff, f"{part}.ff"),
            share=share,
        )
        return folded, self._context(block, part)

    def _attention(self, module: nn.Module, part: str) -> Attention:
        return self._folder.attention(plain_attention(module, part), part)

    def _context(self, block: Any, part: str) -> Context:
        if block.attn2 is None:
            raise UnknownPart(f"{part}.attn2", "nothing", "cross-attention")
        attention = plain_attention(block.attn2, f"{part}.attn2")
        for name in ("to_q", "to_k"):
            self._folder.linear(getattr(attention, name), f"{part}.attn2.{name}")
        self._folder.layer_norm(block.norm2, f"{part}.norm2")
        out = self._folder.linear(attention.to_out[0], f"{part}.attn2.to_out.0")
        before = known_weight(block.attn1.to_out[0].bias, part)
        return Context(
            value=self._folder.linear(attention.to_v, f"{part}.attn2.to_v"),
            out=_with_bias(out, attention.to_out[0].bias, before),
        )

    def _feed_forward(self, module: nn.Module, part: str) -> FeedForward:
        from diffusers.models.activations import GEGLU
        from diffusers.models.attention import FeedForward as ReferenceFeedForward

        block: Any = known(module, ReferenceFeedForward, part)
        known_value(len(block.net), 3, f"{part}.net")
        gate: Any = known(block.net[0], GEGLU, f"{part}.net.0")
        known_no_dropout(block.net[1], f"{part}.net.1")
        return FeedForward(
            proj=self._folder.linear(gate.proj, f"{part}.net.0.proj"),
            out=self._folder.linear(block.net[2], f"{part}.net.2"),
        )

    def _mlp(self, module: nn.Module, part: str) -> Mlp:
        from diffusers.models.embeddings import TimestepEmbedding
        from torch import nn

        mlp: Any = known(module, TimestepEmbedding, part)
        known_value(mlp.cond_proj, None, f"{part}.cond_proj")
        known_value(mlp.post_act, None, f"{part}.post_act")
        known(mlp.act, nn.SiLU, f"{part}.act")
        return Mlp(
            self._folder.linear(mlp.linear_1, f"{part}.linear_1"),
            self._folder.linear(mlp.linear_2, f"{part}.linear_2"),
        )


def _with_bias(affine: Affine, *biases: torch.Tensor) -> Affine:
    """The same weight with the sum of the biases, kept in double precision until it is used."""
    total = sum((bias.detach().double() for bias in biases[1:]), biases[0].detach().double())
    return Affine(affine.weight, total)
