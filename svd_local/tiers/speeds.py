"""What each speed of the local tier needs, and what is to be said of a clip made with it."""

from __future__ import annotations

from svd_local.engine.blueprint import blueprint_of
from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.fused.fp8 import LEAST_CAPABILITY, unable, wide_enough
from svd_local.engine.takes import Engine
from svd_local.errors import InvalidRequest
from svd_local.request import ClipRequest, GeneratedParameters
from svd_local.result import Correction
from svd_local.tiers.gpus import list_gpus

FP8_SPEEDS = ("fp8", "fp8+cached")
"""Speeds with layers in 8 bits."""


def require_speed(request: ClipRequest, engine: Engine) -> None:
    """Refuse a speed that the engine, or the device that was asked for, does not have.

    Raises:
        InvalidRequest: says what else there is.
    """
    if request.speed in FP8_SPEEDS and request.device == "cpu":
        raise InvalidRequest(
            "speed: fp8 needs a GPU; the CPU gains nothing by it",
            hint="Write --speed exact or --speed cached, or leave out --device cpu.",
            field="speed",
        )
    if engine == "fused" or request.speed in ("exact", "distilled"):
        return
    lacks = "caches no features" if request.speed == "cached" else "has no layers in 8 bits"
    raise InvalidRequest(
        f"speed: the {engine} engine {lacks}",
        hint="Leave out --engine, or write --speed exact.",
        field="speed",
    )


def require_fp8(checkpoint: Checkpoint) -> None:
    """Refuse 8 bits where the GPU does not have them, or they would change nothing.

    Raises:
        InvalidRequest: on a GPU that is too old, or for a network that is too narrow.
    """
    gpu = list_gpus()[0]
    if gpu.capability is not None and gpu.capability < LEAST_CAPABILITY:
        raise unable(gpu.name, gpu.capability)
    widest = max(layer.out for layer in blueprint_of(checkpoint).unet.all_layers() if layer.depth)
    if not wide_enough(4 * widest):
        raise InvalidRequest(
            f"speed: checkpoint {checkpoint.name} has no layer wide enough for fp8",
            hint="Write --speed exact or --speed cached.",
            field="speed",
        )


def uncompiled(request: ClipRequest, engine: Engine) -> tuple[Correction, ...]:
    """That nothing is compiled, where it was asked for in vain."""
    if not request.compile or engine == "fused":
        return ()
    return (Correction("compile", True, None, "only the fused engine is compiled"),)


def approximations(parameters: GeneratedParameters, speed: str) -> tuple[str, ...]:
    """What of a clip is approximate by the request's own choice, in words."""
    found = []
    if speed in FP8_SPEEDS:
        found.append(
            "approximate: the UNet's wide linear layers are in 8 bits (float8_e4m3fn), weights and inputs"
        )
    interval, depth = parameters.cache_interval, parameters.cache_depth
    if interval is not None and interval > 1:
        found.append(
            f"approximate: only every {_ordinal(interval)} step runs the whole network; the steps between "
            f"compute {depth} layer{'s' if depth != 1 else ''} of its way down and reuse deep features"
        )
    if parameters.schedule == "align-your-steps":
        found.append(f"approximate: {parameters.steps} steps, on a schedule made for so few")
    if parameters.schedule == "consistency":
        found.append(
            f"approximate: a UNet distilled for few steps, in {parameters.steps}, not the checkpoint's own"
        )
    return tuple(found)


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number, 'th') }"
