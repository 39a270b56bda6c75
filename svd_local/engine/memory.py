"""How much device memory a clip needs under each placement, and which one to take.

The estimates follow from the networks' sizes. With f frames of w x h pixels, c the width of the
UNet's first level, d the width of the decoder's second and e that of the VAE's first, in
elements of the working precision unless said otherwise:

    UNet        28.2 * c * f * (w / 8) * (h / 8), twice that with guidance    (counted: 7.7 GiB for
                                                                    25 frames at 1024x576 in fp16)
    decoder     the larger of 4 * d and 7 * e, times w * h, for every frame of a chunk
                                                              (counted: 28.1 GiB, all 25 frames)
    encoder     (5 * e + 6) * w * h in fp32, and the VAE's weights in fp32 beside
    frames      three copies in fp32 while they become bytes

Each phase needs its own; a placement's peak is the largest phase with the weights that lie on the
device during it. The counts are of live tensors, as torch measures them; what a GPU needs beside
is added where a peak is compared with what there is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from svd_local.engine.placement import PLACEMENTS, Placement
from svd_local.engine.values import Sampling
from svd_local.errors import InvalidRequest, OutOfMemory

GPU_OVERHEAD = 512 * 2**20
"""Bytes a CUDA context, its libraries' workspaces and fragmentation take."""
APPROXIMATE_CHUNKS = (8, 4, 2, 1)
"""Frames decoded at once where fewer than all are allowed."""

_UNET_ELEMENTS = 28.2
_DECODER_ELEMENTS = 4
_DECODER_END_ELEMENTS = 7
"""Of the decoder's last level, whose temporal blocks hold so many maps at once."""
_ENCODER_ELEMENTS = 5
_PICTURE_PLANES = 6
_FP32 = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """What of a checkpoint decides its memory: parameter counts and widths."""

    unet_parameters: int
    vae_parameters: int
    image_encoder_parameters: int
    image_encoder_layer: int
    """Parameters of one of its layers."""
    largest_tensor: int
    """Elements of the largest single weight."""
    unet_width: int
    encoder_width: int
    decoder_width: int


class Way(Protocol):
    """One way to run a clip, of either engine."""

    @property
    def plan(self) -> str:
        """Its name, for people."""

    @property
    def peak_bytes(self) -> int:
        """Bytes of live tensors at its peak."""

    @property
    def decode_chunk(self) -> int | None:
        """Frames decoded at once; None where all are decoded together."""


W = TypeVar("W", bound=Way)


@dataclass(frozen=True, slots=True)
class Rung:
    """A way of the reference engine: where the weights lie, how many frames are decoded at once, its
    peak in bytes of live tensors.
    """

    placement: Placement
    decode_chunk: int
    peak_bytes: int

    @property
    def plan(self) -> str:
        """The placement's name."""
        return self.placement


def predict(placement: Placement, sizes: Sizes, sampling: Sampling, *, itemsize: int) -> int:
    """Bytes of live tensors on the device at the peak of one clip."""
    unet, vae, image_encoder = (
        count * itemsize
        for count in (sizes.unet_parameters, sizes.vae_parameters, sizes.image_encoder_parameters)
    )
    pixels = sampling.width * sampling.height
    batch = sampling.frames * (2 if sampling.guided else 1)
    steps = int(_UNET_ELEMENTS * sizes.unet_width * batch * (pixels // 64) * itemsize)
    encoding = encoding_bytes(sizes, sampling)
    chunk = min(sampling.decode_chunk, sampling.frames)
    maps = max(_DECODER_ELEMENTS * sizes.decoder_width, _DECODER_END_ELEMENTS * sizes.encoder_width)
    decoding = maps * pixels * chunk * itemsize
    decoding += 3 * sampling.frames * pixels * 3 * _FP32
    upcast = sizes.vae_parameters * (_FP32 - itemsize)
    if placement == "resident":
        peak = unet + vae + image_encoder + max(encoding + upcast, steps, decoding)
    elif placement == "model-offload":
        # The hooks fetch the VAE for the picture and keep it until the last step is done.
        peak = max(image_encoder + vae + upcast + encoding, unet + vae + steps, vae + decoding)
    else:
        peak = 2 * sizes.largest_tensor * itemsize + max(encoding, steps, decoding)
    return peak


def encoding_bytes(sizes: Sizes, sampling: Sampling) -> int:
    """Bytes that encoding the picture takes at its peak, beside weights."""
    planes = _ENCODER_ELEMENTS * sizes.encoder_width + _PICTURE_PLANES
    return planes * sampling.width * sampling.height * _FP32


def ladder(
    sizes: Sizes,
    sampling: Sampling,
    *,
    itemsize: int,
    on_gpu: bool,
    free: int | None,
    total: int | None,
    budget: int | None,
    allow_approximate: bool,
) -> tuple[Rung, ...]:
    """The reference engine's rungs to try, the fastest that fits first; after it only smaller ones.

    Args:
        sizes: the checkpoint's.
        sampling: the clip's; its ``decode_chunk`` is kept unless ``allow_approximate``.
        itemsize: bytes of an element in the working precision.
        on_gpu: whether the GPU's own needs count beside the tensors.
        free: bytes of device memory that can be had now; None where that does not bound anything.
        total: bytes of device memory there are; None likewise.
        budget: most bytes the user allows.
        allow_approximate: decode fewer frames at once where nothing exact fits; changes pixels.

    Raises:
        InvalidRequest: the budget is below the smallest rung; says the least that would do.
        OutOfMemory: the device as a whole is.
    """
    return fitting(
        tuple(_rungs(sizes, sampling, itemsize, allow_approximate)),
        sampling,
        on_gpu=on_gpu,
        free=free,
        total=total,
        budget=budget,
        remedy="" if allow_approximate else ", or add --allow-approximate",
    )


def fitting(
    ways: Sequence[W],
    sampling: Sampling,
    *,
    on_gpu: bool,
    free: int | None,
    total: int | None,
    budget: int | None,
    remedy: str = "",
) -> tuple[W, ...]:
    """Of ``ways``, the fastest first, those to try: the first that fits, then only smaller ones.

    Where nothing fits what is free now, the smallest is tried all the same. ``remedy`` is what else
    the user could do, for the hint of a refusal. The other arguments are `ladder`'s.

    Raises:
        InvalidRequest: the budget is below the smallest way; says the least that would do.
        OutOfMemory: the device as a whole is.
    """
    overhead = GPU_OVERHEAD if on_gpu else 0
    smallest = min(ways, key=lambda way: way.peak_bytes)
    least = smallest.peak_bytes + overhead
    if budget is not None and least > budget:
        raise InvalidRequest(
            f"vram_budget: {_mib(budget)} is too little for {_clip(sampling)}",
            hint=f"Allow at least {_mib(least)}{remedy}, "
            "or ask for fewer frames or a smaller size.",
            field="vram_budget",
        )
    if total is not None and least > total:
        raise OutOfMemory(
            f"{_clip(sampling)} needs about {_mib(least)} of GPU memory at least, "
            f"this GPU has {_mib(total)}",
            hint=f"Ask for fewer frames or a smaller size{remedy}.",
        )
    limit = min((value for value in (free, budget) if value is not None), default=None)
    first = next(
        (way for way in ways if limit is None or way.peak_bytes + overhead <= limit), smallest
    )
    steps = [first]
    for way in ways[ways.index(first) + 1 :]:
        if way.peak_bytes < steps[-1].peak_bytes:
            steps.append(way)
    return tuple(steps)


def _rungs(
    sizes: Sizes, sampling: Sampling, itemsize: int, allow_approximate: bool
) -> Iterator[Rung]:
    """Every rung, exact ones first, each group from the fastest to the smallest."""
    chunks = [sampling.decode_chunk]
    if allow_approximate:
        chunks += [chunk for chunk in APPROXIMATE_CHUNKS if chunk < sampling.decode_chunk]
    for chunk in chunks:
        chunked = dataclasses.replace(sampling, decode_chunk=chunk)
        for placement in PLACEMENTS:
            peak = predict(placement, sizes, chunked, itemsize=itemsize)
            yield Rung(placement, chunk, peak)


def _clip(sampling: Sampling) -> str:
    return f"{sampling.frames} frames at {sampling.width}x{sampling.height}"


def _mib(amount: int) -> str:
    """``amount`` rounded up, so that what is named would do."""
    return f"{-(-amount // 2**20)}MiB"
