"""The VAE's encoder, run by its own modules one by one so that no map is kept longer than it is needed.

diffusers keeps the input of each block to its end, and adds and divides into new maps: five of the widest
at the peak. Here it is three. The operations are the same in the same order, so the result is too, bit for
bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from svd_local.engine.fused.fold_parts import known_no_dropout
from svd_local.engine.fused.unknown import known, known_value

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def know_encoder(vae: nn.Module) -> None:
    """Check that the encoder is one that `encode_picture` can walk through.

    Raises:
        UnknownPart: some part of it is of another kind.
    """
    from diffusers import AutoencoderKLTemporalDecoder
    from diffusers.models.autoencoders.vae import Encoder
    from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D

    model: Any = known(vae, AutoencoderKLTemporalDecoder, "vae")
    encoder: Any = known(model.encoder, Encoder, "vae.encoder")
    for i, module in enumerate(encoder.down_blocks):
        part = f"vae.encoder.down_blocks.{i}"
        block: Any = known(module, DownEncoderBlock2D, part)
        for j, resnet in enumerate(block.resnets):
            _know_resnet(resnet, f"{part}.resnets.{j}")


def _know_resnet(module: nn.Module, part: str) -> None:
    from diffusers.models.resnet import ResnetBlock2D
    from torch import nn

    block: Any = known(module, ResnetBlock2D, part)
    for name in ("upsample", "downsample", "time_emb_proj"):
        known_value(getattr(block, name), None, f"{part}.{name}")
    known_value(block.output_scale_factor, 1.0, f"{part}.output_scale_factor")
    known(block.norm1, nn.GroupNorm, f"{part}.norm1")
    known(block.norm2, nn.GroupNorm, f"{part}.norm2")
    known(block.nonlinearity, nn.SiLU, f"{part}.nonlinearity")
    known_no_dropout(block.dropout, f"{part}.dropout")


def encode_picture(vae: Any, picture: Tensor) -> Tensor:
    """What ``vae.encode(picture).latent_dist.mode()`` is, in the type that the encoder may run in.

    Args:
        vae: checked by `know_encoder`; in fp16 its encoder is cast for the picture only.
        picture: (n, 3, height, width), about -1 to 1.

    Returns:
        (n, latent channels, height / 8, width / 8).
    """
    with _as_wide_as_needed(vae) as wide:
        return _mode(vae, picture.to(wide))


def encoder_type(vae: Any) -> torch.dtype:
    """The type that the encoder is to run in: fp16 overflows where the configuration says so."""
    import torch

    dtype: torch.dtype = vae.quant_conv.weight.dtype
    return torch.float32 if dtype == torch.float16 and vae.config.force_upcast else dtype


@contextlib.contextmanager
def _as_wide_as_needed(vae: Any) -> Iterator[torch.dtype]:
    """The encoder in the type it may run in, and back; the decoder stays as it is."""
    parts = (vae.encoder, vae.quant_conv)
    dtype, wide = vae.quant_conv.weight.dtype, encoder_type(vae)
    if wide == dtype:
        yield dtype
        return
    try:
        for part in parts:
            part.to(wide)
        yield wide
    finally:
        for part in parts:
            part.to(dtype)


def _mode(vae: Any, picture: Tensor) -> Tensor:
    encoder = vae.encoder
    x = encoder.conv_in(picture)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            x = _residual_(x, resnet)
        for downsampler in block.downsamplers or ():
            x = downsampler(x)
    x = encoder.mid_block(x)
    x = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(x)))
    mean: Tensor = vae.quant_conv(x).chunk(2, dim=1)[0]
    return mean


def _residual_(x: Tensor, block: Any) -> Tensor:
    """The resblock's result, in the memory of ``x`` where the channels stay as many."""
    from torch.nn.functional import silu

    h = silu(block.norm1(x), inplace=True)
    h = block.conv1(h)
    h = silu(block.norm2(h), inplace=True)
    h = block.conv2(h)
    if block.conv_shortcut is not None:
        x = block.conv_shortcut(x)
    return x.add_(h)
