"""The fused engine's ways to run a clip, from the fastest to the smallest, all to the same result.

A clip has three phases, each with its own networks: the picture is encoded, the frames are denoised,
the latents are decoded. A way says which weights stay on the device throughout, and how much of a step
and of the decode is computed at once; its peak is that of its largest phase.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from svd_local.engine.blueprint import Blueprint
from svd_local.engine.decoder_memory import decode_bytes
from svd_local.engine.folded_sizes import FoldedSizes, folded_sizes
from svd_local.engine.fused.kernels.choice import NONE, Kernels
from svd_local.engine.fused_memory import step_bytes
from svd_local.engine.memory import fitting
from svd_local.engine.values import Sampling

Weights = Literal["resident", "encoders offloaded", "one network at a time", "weights streamed"]
Step = Literal[
    "whole",
    "guidance halves",
    "pieces of both halves",
    "pieces",
    "pieces, skips in host memory",
]
Decode = Literal["whole", "streaming decode", "streaming decode from host memory"]

# How much longer a clip takes, in hundredths, as estimated from traffic and repeated work: only the
# order counts.
_WEIGHTS: dict[Weights, int] = {
    "resident": 0,
    "encoders offloaded": 3,
    "one network at a time": 6,
    "weights streamed": 40,
}
_STEPS: dict[Step, int] = {
    "whole": 0,
    "guidance halves": 2,
    "pieces of both halves": 7,
    "pieces": 8,
    "pieces, skips in host memory": 20,
}
_DECODES: dict[Decode, int] = {
    "whole": 0,
    "streaming decode": 3,
    "streaming decode from host memory": 8,
}
_BOTH: Step = "pieces of both halves"
"""Only for streamed weights: what is brought to the device serves both halves, so half is brought."""
_PIECE_FRAMES = 2
"""Frames of the widest map in a piece, those of both halves together."""
_LOADS = 2
"""Of streamed weights, on the device at once."""
_ENCODER_MAPS = 3
"""Widest maps that the picture's encoding holds at once, in fp32."""
_PICTURE_PLANES = 3
_SINGLE = 4
_SMALL_CHANGE = 1.01
"""For statistics, biases and whatever else is too small to be followed."""


@dataclass(frozen=True, slots=True)
class FusedWay:
    """One way to run, and its peak in bytes of live tensors on the device."""

    weights: Weights
    step: Step
    decode: Decode
    piece_elements: int | None
    """Elements of a map that one pass of a step takes; None for as much as kernels can index."""
    peak_bytes: int
    fp8: bool = False
    """Whether linear layers are in 8 bits, which is approximate; all else changes nothing."""
    compiled: bool = False
    """Whether a step's parts are compiled."""

    @property
    def plan(self) -> str:
        """Its name, for people."""
        parts = [self.weights, *(part for part in (self.step, self.decode) if part != "whole")]
        return " + ".join([*parts, "compiled"] if self.compiled else parts)

    @property
    def worth_compiling(self) -> bool:
        """Whether compiling its parts could gain anything.

        Not where the time goes into bringing weights. Nor in pieces: they come in several sizes, each
        compiled by itself, and are there to save memory that a compiled part may want.
        """
        return self.weights != "weights streamed" and self.piece_elements is None

    @property
    def decode_chunk(self) -> None:
        """Frames are always decoded together."""
        return

    @property
    def one_by_one(self) -> bool:
        """Whether the halves of guidance run one after the other."""
        return self.step not in ("whole", _BOTH)

    @property
    def host_skips(self) -> bool:
        """Whether a step leaves the maps of its way down in host memory."""
        return self.step == "pieces, skips in host memory"

    @property
    def streaming(self) -> bool:
        """Whether the decode streams."""
        return self.decode != "whole"

    @property
    def host_maps(self) -> bool:
        """Whether a streaming decode keeps its maps in host memory."""
        return self.decode == "streaming decode from host memory"


def fused_ladder(
    blueprint: Blueprint,
    sampling: Sampling,
    *,
    itemsize: int,
    on_gpu: bool,
    free: int | None,
    total: int | None,
    budget: int | None,
    kernels: Kernels = NONE,
) -> tuple[FusedWay, ...]:
    """The ways to try, the fastest that fits first; after it only smaller ones.

    The arguments, but for the blueprint and the kernels of our own that run, and the errors are those of
    `memory.ladder`.

    Raises:
        InvalidRequest: the budget is below the smallest way; says the least that would do.
        OutOfMemory: the device as a whole is.
    """
    return fitting(
        fused_ways(blueprint, sampling, itemsize=itemsize, on_gpu=on_gpu, kernels=kernels),
        sampling,
        on_gpu=on_gpu,
        free=free,
        total=total,
        budget=budget,
    )


def fused_ways(
    blueprint: Blueprint,
    sampling: Sampling,
    *,
    itemsize: int,
    on_gpu: bool,
    kernels: Kernels = NONE,
) -> tuple[FusedWay, ...]:
    """Every way there is on a device, from the fastest.

    On the CPU there is no other memory to put anything in, so weights are always all there.
    """
    pieces = _PIECE_FRAMES * (sampling.width // 8) * (sampling.height // 8)
    pieces *= blueprint.unet.widths[0]
    steps = [step for step in _STEPS if sampling.guided or step not in ("guidance halves", _BOTH)]
    decodes = list(_DECODES)
    weights = list(_WEIGHTS)
    if not on_gpu:
        steps.remove("pieces, skips in host memory")
        decodes.remove("streaming decode from host memory")
        weights = ["resident"]
    sizes = folded_sizes(blueprint, itemsize, fp8=sampling.fp8)
    constants = _constants(blueprint, sampling, itemsize)
    encoding = _encoding(blueprint, sampling)
    limits: dict[Step, int | None] = {
        step: pieces // (2 if step == _BOTH else 1) if step.startswith("pieces") else None
        for step in steps
    }
    stepping = {
        step: constants
        + step_bytes(
            blueprint,
            sampling,
            itemsize=itemsize,
            on_gpu=on_gpu,
            halves=step not in ("whole", _BOTH),
            limit=limits[step],
            host_skips=step == "pieces, skips in host memory",
            kernels=kernels,
        )
        for step in steps
    }
    decoding = {
        decode: decode_bytes(
            blueprint.vae,
            sampling,
            itemsize=itemsize,
            on_gpu=on_gpu,
            streaming=decode != "whole",
            host=decode == "streaming decode from host memory",
            kernels=kernels,
        )
        for decode in decodes
    }
    ways = [
        FusedWay(
            where,
            step,
            decode,
            limits[step],
            _peak(where, sizes, itemsize, encoding, stepping[step], decoding[decode]),
            fp8=sampling.fp8,
        )
        for where, step, decode in itertools.product(weights, steps, decodes)
        if where == "weights streamed" or step != _BOTH
    ]
    return tuple(
        sorted(ways, key=lambda w: _WEIGHTS[w.weights] + _STEPS[w.step] + _DECODES[w.decode])
    )


def _encoding(blueprint: Blueprint, sampling: Sampling) -> int:
    """What encoding the picture takes beside weights, see `fused.picture`."""
    planes = _ENCODER_MAPS * blueprint.sizes.encoder_width + _PICTURE_PLANES
    return planes * sampling.width * sampling.height * _SINGLE


def _peak(
    where: Weights, sizes: FoldedSizes, itemsize: int, encoding: int, stepping: int, decoding: int
) -> int:
    """The largest phase, with the weights that lie on the device during it."""
    networks = sizes.unet + sizes.decoder
    # In half precision the VAE's encoder runs in fp32: cast where it lies, or on its way to a visit.
    wide = sizes.encoder // itemsize * _SINGLE
    if where == "resident":
        everything = networks + sizes.conditioning + sizes.image_encoder
        peak = everything + max(wide + encoding, sizes.encoder + max(stepping, decoding))
    elif where == "encoders offloaded":
        peak = networks + max(sizes.image_encoder, wide + encoding, stepping, decoding)
    else:
        unet, image_encoder = sizes.unet, sizes.image_encoder
        if where == "weights streamed":
            unet = _LOADS * sizes.unet_largest + sizes.unet_ends
            image_encoder = 2 * sizes.image_encoder_layer
        peak = max(image_encoder, wide + encoding, unet + stepping, sizes.decoder + decoding)
    return int(_SMALL_CHANGE * peak)


def _constants(blueprint: Blueprint, sampling: Sampling, itemsize: int) -> int:
    """What is worked out once a clip and stays until its last step, and the latents."""
    unet, batch = blueprint.unet, 2 if sampling.guided else 1
    places = (sampling.width // 8) * (sampling.height // 8)
    elements = batch * places * unet.widths[0]
    for layer in unet.all_layers():
        elements += 2 * sampling.steps * layer.out
        if layer.depth:
            elements += (sampling.frames + 2 * batch * layer.depth) * layer.out
    latents = sampling.frames * places * (unet.in_channels // 2)
    return elements * itemsize + latents * (itemsize + _SINGLE)
