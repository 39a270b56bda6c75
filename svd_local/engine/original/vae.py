"""Every weight of the VAE, which the original layout keeps in two places.

The decoder is ``first_stage_model.decoder``. The picture's encoder is the one the conditioner has for
itself, ``conditioner.embedders.3.encoder``, with its quantising convolution; diffusers has the same two
in one ``AutoencoderKLTemporalDecoder``. Files saved by ComfyUI leave the conditioner's encoder out, and
``first_stage_model.encoder`` does its work: it ends without that convolution, so the identity stands in.

Sources: Stability-AI/generative-models, ``sgm/modules/diffusionmodules/model.py`` (encoder),
``sgm/modules/autoencoding/temporal_ae.py`` (decoder); ComfyUI's ``comfy/sd.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from svd_local.engine.original.weights import Weight, affine, conv, norm

DECODER = "first_stage_model.decoder"
CONDITIONER = "conditioner.embedders.3.encoder"
FIRST_STAGE = "first_stage_model"


def vae_weights(config: Mapping[str, Any], keys: Collection[str]) -> Iterator[Weight]:
    """The weights of the VAE of ``config`` (diffusers' words) in a file that has these ``keys``."""
    home = CONDITIONER if f"{CONDITIONER}.encoder.conv_in.weight" in keys else FIRST_STAGE
    yield from _encoder(config, f"{home}.encoder")
    moments = 2 * config["latent_channels"]
    if home == CONDITIONER or f"{home}.quant_conv.weight" in keys:
        yield from conv("quant_conv", f"{home}.quant_conv", moments, moments, side=1)
    else:
        for weight in conv("quant_conv", "", moments, moments, side=1):
            yield Weight(weight.name, weight.shape, "", "identity")
    yield from _decoder(config, DECODER)


def _encoder(config: Mapping[str, Any], source: str) -> Iterator[Weight]:
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    yield from conv("encoder.conv_in", f"{source}.conv_in", 3, widths[0])
    before = widths[0]
    for level, width in enumerate(widths):
        name, place = f"encoder.down_blocks.{level}", f"{source}.down.{level}"
        for layer in range(layers):
            block = f"{place}.block.{layer}"
            yield from _residual(f"{name}.resnets.{layer}", block, before, width)
            before = width
        if level < len(widths) - 1:
            yield from conv(f"{name}.downsamplers.0.conv", f"{place}.downsample.conv", width, width)
    for layer in range(2):
        block = f"{source}.mid.block_{layer + 1}"
        yield from _residual(f"encoder.mid_block.resnets.{layer}", block, before, before)
    yield from _attention("encoder.mid_block.attentions.0", f"{source}.mid.attn_1", before)
    yield from norm("encoder.conv_norm_out", f"{source}.norm_out", before)
    yield from conv("encoder.conv_out", f"{source}.conv_out", before, 2 * config["latent_channels"])


def _decoder(config: Mapping[str, Any], source: str) -> Iterator[Weight]:
    """The original counts the decoder's levels from the finest, diffusers from the coarsest."""
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    before = widths[-1]
    yield from conv("decoder.conv_in", f"{source}.conv_in", config["latent_channels"], before)
    for layer in range(2):
        block = f"{source}.mid.block_{layer + 1}"
        yield from _video_residual(f"decoder.mid_block.resnets.{layer}", block, before, before)
    yield from _attention("decoder.mid_block.attentions.0", f"{source}.mid.attn_1", before)
    for index, level in enumerate(reversed(range(len(widths)))):
        name, place, width = f"decoder.up_blocks.{index}", f"{source}.up.{level}", widths[level]
        for layer in range(layers + 1):
            block = f"{place}.block.{layer}"
            yield from _video_residual(f"{name}.resnets.{layer}", block, before, width)
            before = width
        if level > 0:
            yield from conv(f"{name}.upsamplers.0.conv", f"{place}.upsample.conv", width, width)
    yield from norm("decoder.conv_norm_out", f"{source}.norm_out", before)
    yield from conv("decoder.conv_out", f"{source}.conv_out", before, 3)
    yield from affine("decoder.time_conv_out", f"{source}.conv_out.time_mix_conv", 3, 3, 3, 1, 1)


def _residual(name: str, source: str, channels: int, out: int) -> Iterator[Weight]:
    yield from norm(f"{name}.norm1", f"{source}.norm1", channels)
    yield from conv(f"{name}.conv1", f"{source}.conv1", channels, out)
    yield from norm(f"{name}.norm2", f"{source}.norm2", out)
    yield from conv(f"{name}.conv2", f"{source}.conv2", out, out)
    if channels != out:
        yield from conv(f"{name}.conv_shortcut", f"{source}.nin_shortcut", channels, out, side=1)


def _video_residual(name: str, source: str, channels: int, out: int) -> Iterator[Weight]:
    """A spatial residual and the temporal one after it."""
    yield from _residual(f"{name}.spatial_res_block", source, channels, out)
    temporal, stack = f"{name}.temporal_res_block", f"{source}.time_stack"
    yield from norm(f"{temporal}.norm1", f"{stack}.in_layers.0", out)
    yield from affine(f"{temporal}.conv1", f"{stack}.in_layers.2", out, out, 3, 1, 1)
    yield from norm(f"{temporal}.norm2", f"{stack}.out_layers.0", out)
    yield from affine(f"{temporal}.conv2", f"{stack}.out_layers.3", out, out, 3, 1, 1)
    yield Weight(f"{name}.time_mixer.mix_factor", (1,), f"{source}.mix_factor")


def _attention(name: str, source: str, width: int) -> Iterator[Weight]:
    """One head over all positions; the original's projections are 1x1 convolutions."""
    yield from norm(f"{name}.group_norm", f"{source}.norm", width)
    for ours, theirs in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        weight, bias = f"{source}.{theirs}.weight", f"{source}.{theirs}.bias"
        yield Weight(f"{name}.{ours}.weight", (width, width), weight, "kernel")
        yield Weight(f"{name}.{ours}.bias", (width,), bias)
