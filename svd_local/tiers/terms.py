"""What a request comes to on a checkpoint: what it takes, as the engine takes it, and what is to be said."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from svd_local.engine.blueprint import blueprint_of
from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.takes import Engine
from svd_local.engine.values import Caching, Sampling
from svd_local.errors import InvalidRequest
from svd_local.request import CACHED_SPEEDS, ClipRequest, GeneratedParameters, Native
from svd_local.tiers.speeds import FP8_SPEEDS

_LIBRARIES = ("torch", "diffusers", "transformers")


def native_of(checkpoint: Checkpoint, request: ClipRequest) -> Native:
    """What the checkpoint takes; its architecture is only looked at where that counts."""
    depths = blueprint_of(checkpoint).unet.cache_depths if request.speed in CACHED_SPEEDS else 1
    return Native(checkpoint.width, checkpoint.height, checkpoint.frames, depths)


def require_kind(request: ClipRequest, checkpoint: Checkpoint) -> None:
    """Refuse to run a distilled checkpoint as if it were another.

    Raises:
        InvalidRequest: the request has another speed.
    """
    if checkpoint.unet is not None and request.speed != "distilled":
        raise InvalidRequest(
            f"checkpoint: {checkpoint.name} is distilled, and --speed {request.speed} runs what is not",
            hint="Add --speed distilled, or name another checkpoint.",
            field="speed",
        )


def sampling_of(parameters: Mapping[str, Any], speed: str) -> Sampling:
    """A plan's parameters as the engine takes them. Every frame is decoded with all others."""
    interval = parameters.get("cache_interval")
    return Sampling(
        seed=parameters["seed"] or 0,
        frames=parameters["frames"],
        fps=parameters["fps"],
        steps=parameters["steps"],
        schedule=parameters["schedule"],
        motion=parameters["motion"],
        noise=parameters["noise"],
        guidance=(parameters["guidance"][0], parameters["guidance"][1]),
        width=parameters["width"],
        height=parameters["height"],
        decode_chunk=parameters["frames"],
        caching=None if interval is None else Caching(interval, parameters["cache_depth"]),
        fp8=speed in FP8_SPEEDS,
    )


def decoding(engine: Engine, frames: int) -> dict[str, int]:
    """How many frames the reference decodes at once, which changes pixels; the other knows no chunks."""
    return {"decode_chunk": frames} if engine == "reference" else {}


def assumed(checkpoint: Checkpoint, request: ClipRequest) -> tuple[str, ...]:
    """What was assumed of a checkpoint that does not say its frame count, where that counts; and which
    distilled UNet was taken where that was not plain.
    """
    plain = checkpoint.base or checkpoint
    chosen = checkpoint.notes if checkpoint.base is not None else ()
    return (*chosen, *(plain.notes if request.frames is None else ()))


def size_warnings(parameters: GeneratedParameters, native: Native) -> tuple[str, ...]:
    """That the clip's size is not the one the checkpoint was trained at, where it is not."""
    size = (parameters.width, parameters.height)
    if size == (native.width, native.height):
        return ()
    return (
        f"{size[0]}x{size[1]} is not the checkpoint's native {native.width}x{native.height}: "
        "quality falls off quickly away from it",
    )


@functools.cache
def library_versions() -> tuple[tuple[str, str], ...]:
    """What of the installed libraries decides pixels, asked of their metadata."""
    return tuple((name, version(name)) for name in _LIBRARIES)
