"""How much the folded networks weigh, counted from their shapes without folding anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from svd_local.engine.blueprint import Blueprint, Layer, UNetShape, VaeShape
from svd_local.engine.fused.fp8 import wide_enough

_QUARTERS = 16
"""Weights in the four 2x2 kernels that a 3x3 kernel over enlarged maps folds into."""
_SPATIAL, _TEMPORAL = (16, 4), (28, 8)
"""Of a transformer's blocks, in squares of the width: linear layers, and those of them with fourfold
inputs."""


@dataclass(frozen=True, slots=True)
class FoldedSizes:
    """Bytes of each part."""

    unet: int
    """What every step needs."""
    conditioning: int
    """What is needed once a clip, and may stay in host memory."""
    decoder: int
    encoder: int
    """The VAE's, in the working precision."""
    image_encoder: int
    unet_largest: int
    """The largest part of the UNet that is used at once, see `fused.weights.parts_in_order`."""
    unet_ends: int
    """The UNet's way in and way out, which are no parts in that sense."""
    image_encoder_layer: int
    """About what one layer of the image encoder weighs."""


def folded_sizes(blueprint: Blueprint, itemsize: int, *, fp8: bool = False) -> FoldedSizes:
    """Bytes of every part, ``itemsize`` to an element, but one where ``fp8`` has it so."""
    sizes = blueprint.sizes
    conditioning, dropped = _conditioning(blueprint.unet)
    decoder, quarters = _decoder(blueprint.vae)
    unet = sizes.unet_parameters - conditioning - dropped
    unet += sum(_QUARTERS * width**2 for width in blueprint.unet.widths[1:])
    saved = 0
    if fp8:
        for layer in blueprint.unet.all_layers():
            blocks = _in_fp8(layer, _SPATIAL) + _in_fp8(layer, _TEMPORAL)
            saved += layer.depth * blocks * (itemsize - 1)
    return FoldedSizes(
        unet=unet * itemsize - saved,
        conditioning=conditioning * itemsize,
        decoder=(decoder + quarters) * itemsize,
        encoder=max(0, sizes.vae_parameters - decoder) * itemsize,
        image_encoder=sizes.image_encoder_parameters * itemsize,
        unet_largest=max(_parts(blueprint.unet, itemsize, fp8=fp8)),
        unet_ends=_ends(blueprint.unet) * itemsize,
        image_encoder_layer=sizes.image_encoder_layer * itemsize,
    )


def _in_fp8(layer: Layer, block: tuple[int, int]) -> int:
    """Parameters of a block that take a byte each where layers are in 8 bits."""
    linear, fourfold = block
    if wide_enough(layer.out):
        return linear * layer.out**2
    return fourfold * layer.out**2 if wide_enough(4 * layer.out) else 0


def _parts(unet: UNetShape, itemsize: int, *, fp8: bool) -> Iterator[int]:
    """Bytes of each kind of part, wherever it is largest; vectors aside, where there are matrices."""
    for layer in unet.all_layers():
        channels, width = layer.channels + layer.skip, layer.out
        spatial = 9 * width * (channels + width) + (channels * width if channels != width else 0)
        yield spatial * itemsize
        yield 6 * width * width * itemsize
        if layer.depth:
            saved = _in_fp8(layer, _TEMPORAL) * (itemsize - 1) if fp8 else 0
            yield _TEMPORAL[0] * width * width * itemsize - saved
    for width in unet.widths[1:]:
        yield (9 + _QUARTERS) * width * width * itemsize


def _ends(unet: UNetShape) -> int:
    return 9 * unet.widths[0] * (unet.in_channels + unet.in_channels // 2)


def _conditioning(unet: UNetShape) -> tuple[int, int]:
    """Parameters that only the conditioning meets, and those that nothing needs any more."""
    time = 4 * unet.widths[0]
    kept = sum(inputs * time + time for inputs in unet.time_inputs) + 2 * (time * time + time)
    dropped = 0
    for layer in unet.all_layers():
        width, context = layer.out, layer.context
        kept += 2 * (time * width + width)
        if layer.depth:
            kept += 8 * width * width + 5 * width
            kept += 2 * layer.depth * (context * width + width * width + width)
            dropped += 2 * layer.depth * (width * width + context * width + 2 * width)
    return kept, dropped


def _decoder(vae: VaeShape) -> tuple[int, int]:
    """Parameters of the VAE's decoder as it was, and what folding adds."""
    widths = vae.widths
    decoder = 9 * vae.latent_channels * widths[-1]
    quarters = 0
    for what, channels, out in vae.decoder():
        decoder += 9 * out * (channels + out) + 6 * out * out
        if channels != out:
            decoder += channels * out
        if what == "attend":
            decoder += 4 * channels * channels
        if what == "enlarge":
            decoder += 9 * channels * channels
            quarters += _QUARTERS * channels * channels
    return decoder, quarters
