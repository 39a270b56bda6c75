"""The ways to make a clip that `benchmarks.clip` compares: speeds, and memory budgets."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.options import count, existing, gib
from benchmarks.setting import Setting, models_folder
from svd_local.engine.blueprint import blueprint_of
from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.checkpoints import distilled_checkpoint, resolve_distilled
from svd_local.engine.distilled import DistilledUNet
from svd_local.engine.values import Caching, Sampling, Schedule
from svd_local.errors import InvalidRequest

FP8_SPEEDS = ("fp8", "fp8+cached")
SPEEDS = ("exact", "cached", "distilled", *FP8_SPEEDS)
_CACHED = ("cached", "fp8+cached")
STEPS: dict[Schedule, int] = {"karras": 25, "align-your-steps": 10, "consistency": 4}
"""Of each schedule, where nothing else is asked for."""
CACHING = Caching(interval=3, depth=1)
"""As ``--speed cached`` has it where nothing else is asked for."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Speed, what goes with it, and the budget."""
    parser.add_argument("--speed", choices=SPEEDS, default="exact")
    parser.add_argument("--cache-interval", type=count, help=f"cached: {CACHING.interval}")
    parser.add_argument("--cache-depth", type=count, help=f"cached: {CACHING.depth}")
    parser.add_argument(
        "--distilled",
        type=existing,
        metavar="FILE",
        help="distilled: the UNet's safetensors; one that is installed where not given",
    )
    parser.add_argument(
        "--schedule",
        choices=("karras", "align-your-steps"),
        default="karras",
        help="the second is --quality fast: ten steps",
    )
    parser.add_argument("--steps", type=count, help="25; 10 of align-your-steps, 4 of distilled")
    parser.add_argument("--budget", type=gib, help="GiB of memory that the plan may take")


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse what does not go together, before any work.

    Raises:
        SystemExit: says what.
    """
    speed, engine = arguments.speed, arguments.engine
    for name in ("cache_interval", "cache_depth"):
        if getattr(arguments, name) is not None and speed not in _CACHED:
            parser.error(f"--{name.replace('_', '-')} is for --speed cached")
    if speed in _CACHED and (not engine.startswith("fused") or engine == "fused-one-graph"):
        parser.error(f"--speed {speed} is the fused engine's, not in one graph: leave out --engine")
    if speed in FP8_SPEEDS and not engine.startswith("fused"):
        parser.error(f"--speed {speed} is the fused engine's: leave out --engine")
    if speed in FP8_SPEEDS and arguments.budget is not None:
        parser.error(f"--budget is for the other speeds than {speed}")
    if arguments.distilled is not None and speed != "distilled":
        parser.error("--distilled is for --speed distilled")
    if arguments.schedule == "align-your-steps":
        if speed == "distilled":
            parser.error("--speed distilled has a schedule of its own: leave out --schedule")
        if arguments.steps not in (None, STEPS["align-your-steps"]):
            parser.error("--schedule align-your-steps has ten steps: leave out --steps")
    if arguments.budget is not None and engine not in ("fused", "reference"):
        parser.error("--budget plans for the engines fused and reference")


def caching_of(arguments: argparse.Namespace) -> Caching | None:
    """Interval and depth, where features are cached."""
    if arguments.speed not in _CACHED:
        return None
    return Caching(
        arguments.cache_interval or CACHING.interval, arguments.cache_depth or CACHING.depth
    )


def require_depth(setting: Setting, caching: Caching) -> None:
    """Refuse to cache behind layers that the network does not have.

    Raises:
        InvalidRequest: says how many it has.
    """
    depths = blueprint_of(setting.checkpoint).unet.cache_depths
    if caching.depth > depths:
        raise InvalidRequest(
            f"--cache-depth {caching.depth}: checkpoint {setting.checkpoint.name} has {depths}",
            hint=f"Write 1 to {depths}.",
        )


def schedule_of(arguments: argparse.Namespace) -> Schedule:
    """The distilled UNet's own, or the one asked for."""
    schedule: Schedule = "consistency" if arguments.speed == "distilled" else arguments.schedule
    return schedule


def sampled(
    setting: Setting, steps: int, schedule: Schedule, caching: Caching | None = None
) -> Sampling:
    """A clip's parameters as `svd-local generate` has them by default, for each speed."""
    sampling = dataclasses.replace(setting.sampling(steps, schedule), caching=caching)
    if schedule == "consistency":
        return dataclasses.replace(sampling, guidance=(1.0, 1.2), motion=80)
    return sampling


@contextmanager
def with_distilled(setting: Setting, file: Path | None) -> Iterator[Setting]:
    """``setting`` with a distilled UNet: of ``file``, or the one that is installed for its checkpoint.

    Raises:
        CheckpointUnavailable: none is installed.
        CheckpointBroken: it is no UNet of the checkpoint's architecture.
    """
    if file is None:
        found = resolve_distilled(_findable(setting.checkpoint), models_folder())
        yield dataclasses.replace(setting, checkpoint=found)
        return
    with tempfile.TemporaryDirectory(prefix="svd-local-distilled-") as folder:
        (Path(folder) / file.name).symlink_to(file.resolve())
        unet = DistilledUNet(file.stem, Path(folder), _findable(setting.checkpoint))
        found = distilled_checkpoint(unet, models_folder())
        yield dataclasses.replace(setting, checkpoint=found)


def _findable(checkpoint: Checkpoint) -> str:
    """What `resolve` knows a checkpoint by: its path, where it was given by that."""
    if checkpoint.path is not None and checkpoint.source in ("folder", "file"):
        return str(checkpoint.path.absolute())
    return checkpoint.name


def told_of_unet(checkpoint: Checkpoint) -> str | None:
    """Which distilled UNet it was; None for a checkpoint's own."""
    if checkpoint.unet is None or checkpoint.base is None or checkpoint.base.path is None:
        return None
    own = [one.resolve() for one in checkpoint.base.path.glob("unet/*.safetensors")]
    if checkpoint.unet.file.resolve() in own:
        return "the checkpoint's own UNet: only the time means anything"
    return checkpoint.unet.file.name
