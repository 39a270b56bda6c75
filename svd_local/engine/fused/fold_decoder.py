"""From an `AutoencoderKLTemporalDecoder` to the folded weights of its decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svd_local.engine.fused.fold_parts import Folder, plain_attention, temporal_share
from svd_local.engine.fused.unknown import known, known_value
from svd_local.engine.fused.weights import (
    DecoderLayer,
    DecoderWeights,
    FrameAttention,
    ResBlock,
    Upsample,
)

if TYPE_CHECKING:
    import torch
    from torch import nn


def fold_decoder(vae: nn.Module, dtype: torch.dtype | None) -> DecoderWeights:
    """Check every part of the VAE's decoder and fold it; the encoder is left alone.

    Raises:
        UnknownPart: some part's arithmetic is not known.
    """
    from diffusers import AutoencoderKLTemporalDecoder
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import TemporalDecoder
    from torch import nn

    model: Any = known(vae, AutoencoderKLTemporalDecoder, "vae")
    decoder: Any = known(model.decoder, TemporalDecoder, "vae.decoder")
    known(decoder.conv_act, nn.SiLU, "vae.decoder.conv_act")
    folder, part = Folder(dtype), "vae.decoder"
    return DecoderWeights(
        conv_in=folder.convolution(decoder.conv_in, f"{part}.conv_in", kernel=3),
        layers=(
            *_middle(folder, decoder.mid_block, f"{part}.mid_block"),
            *_up(folder, decoder.up_blocks, f"{part}.up_blocks"),
        ),
        norm_out=folder.group_norm(decoder.conv_norm_out, f"{part}.conv_norm_out"),
        conv_out=folder.convolution(decoder.conv_out, f"{part}.conv_out", kernel=3),
        time_conv_out=folder.temporal_convolution(decoder.time_conv_out, f"{part}.time_conv_out"),
    )


def _middle(folder: Folder, block: nn.Module, part: str) -> list[DecoderLayer]:
    """The first resblock, then an attention before each further one, as far as attentions go."""
    from diffusers.models.unets.unet_3d_blocks import MidBlockTemporalDecoder

    middle: Any = known(block, MidBlockTemporalDecoder, part)
    layers = [DecoderLayer(None, _resblock(folder, middle.resnets[0], f"{part}.resnets.0"))]
    # The reference pairs them with zip: resblocks beyond the last attention are never run.
    for i, (resnet, module) in enumerate(
        zip(middle.resnets[1:], middle.attentions, strict=False), start=1
    ):
        name = f"{part}.attentions.{i - 1}"
        attention = plain_attention(module, name, residual=True)
        before = FrameAttention(
            norm=folder.group_norm(attention.group_norm, f"{name}.group_norm"),
            attention=folder.attention(attention, name),
        )
        layers.append(DecoderLayer(before, _resblock(folder, resnet, f"{part}.resnets.{i}")))
    return layers


def _up(folder: Folder, blocks: Any, part: str) -> list[DecoderLayer]:
    """Each block's enlargement comes before the next block's first resblock."""
    from diffusers.models.unets.unet_3d_blocks import UpBlockTemporalDecoder

    layers: list[DecoderLayer] = []
    enlarge: Upsample | None = None
    for i, module in enumerate(blocks):
        name = f"{part}.{i}"
        block: Any = known(module, UpBlockTemporalDecoder, name)
        for j, resnet in enumerate(block.resnets):
            folded = _resblock(folder, resnet, f"{name}.resnets.{j}")
            layers.append(DecoderLayer(enlarge if j == 0 else None, folded))
        enlarge = None
        if block.upsamplers is not None:
            known_value(len(block.upsamplers), 1, f"{name}.upsamplers")
            enlarge = folder.upsample(block.upsamplers[0], f"{name}.upsamplers.0")
    known_value(enlarge, None, f"{part}.{len(blocks) - 1}.upsamplers")
    return layers


def _resblock(folder: Folder, module: nn.Module, part: str) -> ResBlock:
    """A resblock without time embedding: its first convolutions keep their own biases."""
    from diffusers.models.resnet import SpatioTemporalResBlock

    block: Any = known(module, SpatioTemporalResBlock, part)
    spatial, temporal = f"{part}.spatial_res_block", f"{part}.temporal_res_block"
    known_value(block.spatial_res_block.time_emb_proj, None, f"{spatial}.time_emb_proj")
    known_value(block.temporal_res_block.time_emb_proj, None, f"{temporal}.time_emb_proj")
    share = temporal_share(block.time_mixer, f"{part}.time_mixer")
    return ResBlock(
        spatial=folder.spatial_residual(block.spatial_res_block, spatial),
        temporal=folder.temporal_residual(block.temporal_res_block, temporal, share),
        slot=0,
    )
