"""The speeds that approximate, against the exact one: what they gain, and how far they lead away.

    python -m benchmarks.modes [--device cpu|cuda] [--checkpoint NAME] [--steps 25] [--runs 3] [--json FILE]

The same picture and seed in every mode of the fused engine: exact; the ten-step schedule (``--quality
fast``); deep features cached (``--speed cached``) at several intervals and depths; wide linear layers in 8
bits (``--speed fp8``), which the CPU only emulates, and both (``--speed fp8+cached``); distilled (``--speed
distilled``), where one for this checkpoint is installed, and else the checkpoint's own UNet under the
distilled schedule, of which only the time means anything. Seconds are those of a clip from the picture's
encoding to its last frame, in turns, after a clip that warms up. The distance from the exact clip is
given as relative L2 of the latents, mean absolute grey levels, and PSNR of the frames in dB.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import StableVideoDiffusionPipeline
from torch import Tensor

from benchmarks.ceilings import has_fp8
from benchmarks.common import (
    Result,
    arguments_for,
    finish,
    fp8_inputs,
    fp8_option,
    spread,
    synchronise,
)
from benchmarks.engines import release_folded
from benchmarks.options import count, run
from benchmarks.setting import Setting, models_folder, picture
from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.checkpoints import resolve_distilled
from svd_local.engine.consistency import ConsistencyScheduler
from svd_local.engine.fused import render as fused_render
from svd_local.engine.fused.decoder import FusedDecoder
from svd_local.engine.fused.kernels.choice import using
from svd_local.engine.fused.render import Fused
from svd_local.engine.loading import load
from svd_local.engine.placement import empty_cache, place
from svd_local.engine.quiet import no_chatter
from svd_local.engine.streams import whole
from svd_local.engine.values import Caching, Sampling
from svd_local.errors import CheckpointUnavailable

CACHES = ((2, 1), (3, 1), (5, 1), (3, 3), (3, 6))
"""Interval and depth."""
NOTE = {
    True: "distances on random weights show that something changed; they are no statement about quality",
    False: "distances say how far a mode leads from the exact clip, not which of the two looks better",
}

Frames = np.ndarray[Any, np.dtype[np.uint8]]


def main() -> None:
    """Measure, print, and write the result."""
    parser = arguments_for(__doc__)
    parser.add_argument("--steps", type=count, default=25, help="of the exact and the cached clips")
    parser.add_argument("--runs", type=count, default=3)
    fp8_option(parser)
    arguments = parser.parse_args()
    fp8_inputs(arguments)
    result = measure(Setting.of(arguments), steps=arguments.steps, runs=arguments.runs)
    finish(result, arguments.json)


@dataclass(frozen=True)
class Mode:
    """One way to make the clip. ``speed`` is what a result would say."""

    name: str
    speed: str
    sampling: Sampling
    note: str = ""

    @property
    def fp8(self) -> bool:
        """Whether its layers are in 8 bits."""
        return self.speed.startswith("fp8")


@dataclass
class Made:
    """What a mode came to: seconds of each run, and the latents and frames, which are always the same."""

    seconds: list[float] = field(default_factory=list)
    latents: Tensor | None = None
    frames: Frames | None = None


def measure(setting: Setting, *, steps: int, runs: int) -> Result:
    """Every mode, in turns; the distilled one afterwards, since it may need another UNet."""
    with using(setting.kernels):
        return _measured(setting, steps=steps, runs=runs)


def _measured(setting: Setting, *, steps: int, runs: int) -> Result:
    made: dict[str, Made] = {}
    usual = list(modes(setting, steps))
    pipeline = _loaded(setting, setting.checkpoint)
    fused = _folded(pipeline)
    _run(pipeline, fused, setting, usual, runs, made)
    few, checkpoint = distilled(setting)
    if checkpoint is not None:
        del pipeline, fused
        empty_cache()
        pipeline = _loaded(setting, checkpoint)
        fused = _folded(pipeline)
    pipeline.scheduler = ConsistencyScheduler()
    _run(pipeline, fused, setting, [few], runs, made)
    exact = made["exact"]
    return {
        **setting.describe("modes"),
        "engine": "fused",
        "steps": steps,
        "note": NOTE[setting.checkpoint.synthetic],
        "modes": [_row(mode, made[mode.name], exact) for mode in (*usual, few)],
    }


def modes(setting: Setting, steps: int) -> Iterator[Mode]:
    """All that run on the checkpoint's own UNet and scheduler, the exact one first."""
    exact = setting.sampling(steps)
    yield Mode("exact", "exact", exact)
    yield Mode("fast", "exact", setting.sampling(10, "align-your-steps"), "the ten-step schedule")
    for interval, depth in CACHES:
        cached = dataclasses.replace(exact, caching=Caching(interval, depth))
        yield Mode(f"cached {interval}, {depth}", "cached", cached)
    if setting.device == "cpu" or has_fp8(setting):
        note = "emulated: the time means nothing" if setting.device == "cpu" else ""
        both = dataclasses.replace(exact, caching=Caching(*CACHES[1]))
        yield Mode("fp8", "fp8", exact, note)
        yield Mode("fp8+cached", "fp8+cached", both, note)


def distilled(setting: Setting) -> tuple[Mode, Checkpoint | None]:
    """The distilled mode, and the checkpoint that has it; None where there is none."""
    sampling = dataclasses.replace(
        setting.sampling(4, "consistency"), guidance=(1.0, 1.2), motion=80
    )
    try:
        checkpoint = resolve_distilled(setting.checkpoint.name, models_folder())
    except CheckpointUnavailable:
        note = "the checkpoint's own UNet: only the time means anything"
        return Mode("distilled", "distilled", sampling, note), None
    return Mode("distilled", "distilled", sampling, checkpoint.name), checkpoint


def _loaded(setting: Setting, checkpoint: Checkpoint) -> StableVideoDiffusionPipeline:
    with no_chatter():
        pipeline = load(checkpoint, setting.device, setting.precision)
        place(pipeline, "resident", setting.device)
    return pipeline


@dataclass(frozen=True)
class NotingDecoder(FusedDecoder):
    """A decoder that notes what it is given."""

    given: list[Tensor] = field(default_factory=list)

    def pictures(self, latents: Tensor) -> Iterator[Tensor]:
        """As the decoder's own."""
        self.given[:] = [latents.float().cpu()]
        return super().pictures(latents)


def _run(
    pipeline: StableVideoDiffusionPipeline,
    fused: Fused,
    setting: Setting,
    chosen: list[Mode],
    runs: int,
    made: dict[str, Made],
) -> None:
    """Each mode ``runs`` times in turns, after one clip that warms up."""
    decoder = fused.decoder
    assert isinstance(decoder, NotingDecoder)
    image = picture(setting.width, setting.height)
    eight = dataclasses.replace(fused, unet=fused.unet.in_fp8())
    whole(fused_render.render(pipeline, fused, image, chosen[0].sampling))
    for _ in range(runs):
        for mode in chosen:
            synchronise(setting.device)
            began = time.perf_counter()
            networks = eight if mode.fp8 else fused
            rendered = whole(fused_render.render(pipeline, networks, image, mode.sampling))
            synchronise(setting.device)
            told = made.setdefault(mode.name, Made())
            told.seconds.append(time.perf_counter() - began)
            told.latents, told.frames = decoder.given[0], rendered.frames


def _folded(pipeline: StableVideoDiffusionPipeline) -> Fused:
    """The networks folded, what was folded let go of."""
    fused = Fused.from_pipeline(pipeline)
    release_folded(pipeline)
    own = {f.name: getattr(fused.decoder, f.name) for f in dataclasses.fields(fused.decoder)}
    return Fused(fused.unet, NotingDecoder(**own))


def _row(mode: Mode, made: Made, exact: Made) -> Result:
    assert made.latents is not None
    assert made.frames is not None
    assert exact.latents is not None
    assert exact.frames is not None
    sampling, caching = mode.sampling, mode.sampling.caching
    return {
        "name": mode.name,
        "speed": mode.speed,
        "note": mode.note,
        "steps": sampling.steps,
        "schedule": sampling.schedule,
        "cache_interval": None if caching is None else caching.interval,
        "cache_depth": None if caching is None else caching.depth,
        "seconds": spread(made.seconds),
        "times_faster": spread(
            [slow / fast for slow, fast in zip(exact.seconds, made.seconds, strict=True)], 3
        ),
        "from_exact": None if made is exact else distance(made, exact),
    }


def distance(made: Made, exact: Made) -> Result:
    """How far a clip is from the exact one."""
    assert made.latents is not None
    assert made.frames is not None
    assert exact.latents is not None
    assert exact.frames is not None
    apart = made.frames.astype(np.float64) - exact.frames
    mean_square = float(np.square(apart).mean())
    return {
        "latents": round(float(torch.dist(made.latents, exact.latents) / exact.latents.norm()), 5),
        "grey_levels": round(float(np.abs(apart).mean()), 3),
        "psnr_db": None if mean_square == 0 else round(10 * np.log10(255**2 / mean_square), 2),
    }


if __name__ == "__main__":
    run(main)
