"""``tiny-svd``: a checkpoint of 7.9 M parameters with the real one's classes, made on the spot.

Its weights are random, but the paths that carry a picture through are laid by hand: the VAE passes
a thumbnail of the picture both ways and the UNet's prediction pulls the noise towards it. So a clip
shows a blurred, restless version of its picture instead of noise, and everything that looks at
pixels (quality checks, encoders, people) has something to look at. It is no model of the world, and
results made with it say ``synthetic``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from svd_local.engine.architecture import COMPONENTS, build, tiny
from svd_local.engine.identity import revision_of
from svd_local.engine.quiet import quiet
from svd_local.engine.random_weights import fill
from svd_local.errors import StorageFailed

if TYPE_CHECKING:
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from diffusers.models.resnet import ResnetBlock2D
    from torch.nn import Conv2d

NAME = "tiny-svd"
SEED = 6
RECIPE = 1
"""Raised whenever the same code would come to other weights: part of the checkpoint's revision."""

_NOISE_PULL = 2.0
"""How strongly the UNet contracts noise: exp(-pi / 2 * pull) of it is left after the last step."""
_PICTURE_PULL = 2.1
_RESTLESSNESS = 0.12


def ensure(models_dir: Path) -> Path:
    """The folder of ``tiny-svd`` under ``models_dir``, made where it is missing.

    It appears whole or not at all: it is written beside its place and renamed. Of two processes
    that make it at once one wins, and both find the same bytes.

    Raises:
        StorageFailed: the models folder cannot be written.
    """
    target = models_dir / NAME
    if (target / "model_index.json").is_file():
        return target
    try:
        return _write(target)
    except OSError as error:
        raise StorageFailed(
            f"the tiny checkpoint could not be written to {target}: {error}",
            hint="Set SVD_LOCAL_MODELS_DIR to a folder that can be written.",
        ) from error


def _write(target: Path) -> Path:
    models_dir = target.parent
    models_dir.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=models_dir))
    try:
        with quiet():
            make().save_pretrained(draft, safe_serialization=True)
        native = tiny()
        size = {
            "width": native.width,
            "height": native.height,
            "frames": native.frames,
            "synthetic": True,
        }
        (draft / "svd_local.json").write_text(json.dumps(size) + "\n", encoding="utf-8")
        _record_checksums(draft)
        draft.chmod(0o755)
        with contextlib.suppress(OSError):  # somebody else's rename came first
            draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if not (target / "model_index.json").is_file():
        raise OSError(f"{target} is in the way of the tiny checkpoint")
    return target


def _record_checksums(folder: Path) -> None:
    """What ``models verify`` compares with, as a pull records it."""
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest()
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    record = {"files": files, "revision": revision_of(folder)}
    text = json.dumps(record, indent=2) + "\n"
    (folder / "svd_local.lock.json").write_text(text, encoding="utf-8")


def make() -> StableVideoDiffusionPipeline:
    """The pipeline in fp32 on the CPU. Same torch, same weights, whatever was drawn before."""
    import torch

    with torch.device("cpu"):
        pipeline = build(tiny())
    generator = torch.Generator("cpu").manual_seed(SEED)
    for name in COMPONENTS:
        fill(getattr(pipeline, name), generator)
    with torch.no_grad():
        _lay_encoder(pipeline.vae)
        _lay_decoder(pipeline.vae)
        _lay_unet(pipeline.unet)
    return pipeline


def _lay_encoder(vae: AutoencoderKLTemporalDecoder) -> None:
    """Red, green and blue become the first three latent channels, averaged over 8x8 pixels."""
    encoder = vae.encoder
    _signed(encoder.conv_in, list(range(3)), 1.0)
    for block in encoder.down_blocks:
        _pass_shortcuts(block.resnets)
        for downsampler in block.downsamplers or ():
            _identity(downsampler.conv, [[0.25, 0.25, 0.0], [0.25, 0.25, 0.0], [0.0, 0.0, 0.0]])
    encoder.conv_out.weight.mul_(0.1)
    _unsigned(encoder.conv_out, list(range(3)), 1.0)
    _identity(vae.quant_conv, [[1.0]])


def _lay_decoder(vae: AutoencoderKLTemporalDecoder) -> None:
    """The way back, each nearest-neighbour doubling smoothed by a tent."""
    decoder = vae.decoder
    _signed(decoder.conv_in, list(range(4)), vae.config.scaling_factor)
    tent = [[a * b / 16.0 for b in (1.0, 2.0, 1.0)] for a in (1.0, 2.0, 1.0)]
    for block in decoder.up_blocks:
        _pass_shortcuts(resnet.spatial_res_block for resnet in block.resnets)
        for upsampler in block.upsamplers or ():
            _identity(upsampler.conv, tent)
    decoder.conv_out.weight.mul_(0.05)
    _unsigned(decoder.conv_out, list(range(3)), 0.45)
    decoder.time_conv_out.weight.zero_()
    for channel in range(3):
        decoder.time_conv_out.weight[channel, channel, :, 0, 0] = decoder.time_conv_out.weight.new(
            [0.1, 0.8, 0.1]
        )


def _lay_unet(unet: UNetSpatioTemporalConditionModel) -> None:
    """The prediction is ``pull * noisy - pull * picture`` plus what the random network adds.

    The last resnet of the last block sees ``conv_in``'s output as a skip connection; its shortcut
    hands that to ``conv_out``, which reads noisy latents (inputs 0-3) and picture (inputs 4-7).
    """
    import torch

    _signed(unet.conv_in, list(range(8)), 1.0)
    shortcut = unet.up_blocks[-1].resnets[-1].spatial_res_block.conv_shortcut
    width = shortcut.out_channels
    skip = shortcut.in_channels - width
    shortcut.weight[:16].zero_()
    for channel in range(16):
        shortcut.weight[channel, skip + channel] = 1.0
    unet.conv_out.weight.mul_(_RESTLESSNESS)
    unet.conv_out.weight[:, :16].zero_()
    for channel in range(unet.conv_out.out_channels):
        for source, pull in ((channel, _NOISE_PULL), (channel + 4, -_PICTURE_PULL)):
            signs = torch.tensor([pull, -pull])
            unet.conv_out.weight[channel, 2 * source : 2 * source + 2, 1, 1] = signs


def _signed(conv: Conv2d, inputs: list[int], gain: float) -> None:
    """Channels 2j and 2j+1 become plus and minus input j.

    As a pair they keep their mean through a group norm that holds both, and come back whole through
    SiLU: silu(z) - silu(-z) = z.
    """
    for source in inputs:
        conv.weight[2 * source : 2 * source + 2].zero_()
        conv.weight[2 * source, source, 1, 1] = gain
        conv.weight[2 * source + 1, source, 1, 1] = -gain


def _unsigned(conv: Conv2d, outputs: list[int], gain: float) -> None:
    """Output j reads the pair of channels that ``_signed`` made of input j."""
    for target in outputs:
        conv.weight[target].mul_(0.2)
        conv.weight[target, 2 * target : 2 * target + 2].zero_()
        conv.weight[target, 2 * target, 1, 1] = gain
        conv.weight[target, 2 * target + 1, 1, 1] = -gain


def _identity(conv: Conv2d, kernel: list[list[float]]) -> None:
    """Every channel goes through by itself, filtered by ``kernel``."""
    import torch

    conv.weight.zero_()
    for channel in range(min(conv.in_channels, conv.out_channels)):
        conv.weight[channel, channel] = torch.tensor(kernel)


def _pass_shortcuts(resnets: Iterable[ResnetBlock2D]) -> None:
    """Where a block changes its width, its first channels go through as they are."""
    for resnet in resnets:
        shortcut = resnet.conv_shortcut
        if shortcut is not None:
            same = min(shortcut.in_channels, shortcut.out_channels)
            shortcut.weight[:same].zero_()
            for channel in range(same):
                shortcut.weight[channel, channel] = 1.0
