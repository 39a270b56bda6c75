"""Seconds and gigabytes of one clip, from a picture on disk to an MP4 on disk, by phase.

    python -m benchmarks.clip [--device cpu|cuda] [--checkpoint NAME] [--engine reference|compiled|fused|fused-compiled|...]
                              [--speed exact|cached|distilled|fp8|fp8+cached] [--cache-interval N] [--cache-depth N] [--distilled FILE]
                              [--schedule karras|align-your-steps] [--budget GiB] [--attention RESULT] [--twins RESULT] [--frames N] [--steps N] [--runs N] [--json FILE]

Loads once, makes one clip to warm up (few steps where the schedule allows), then measures ``--runs``
whole clips. ``to_first_step_s`` is what passed before the first of them began to denoise, imports apart:
loading, folding, encoding; with ``--from-disk`` that reads files. ``gpu_s`` is the median time from the picture's encoding to the last frame in main memory,
``seconds_per_clip`` has the picture's reading and the video's encoding beside. As in ``svd-local``, a
thread encodes the frames while the next ones are decoded: the phase ``encode_video`` is what was left of
it after the last frame. Milliseconds per step
are taken with events of the GPU, so nothing waits for them. ``compile`` says what was compiled in parts, in
how many seconds, all of them in the warm-up; the cache on disk makes the second process quicker. ``peak_bytes`` is, on CUDA, the most that
torch's allocator had handed out within one clip (statistics reset before each), weights included; on
the CPU the most bytes of living tensors in a run of its own, weights included too.

``--schedule align-your-steps`` is the ten steps of ``--quality fast``. ``--budget`` has the engine run in the
plan that a session takes within so much memory; ``plan`` and ``predicted_peak_bytes`` say which that is, on the
CPU also without a budget. ``processor_s`` are the processor's seconds from the picture to the last frame: other
programs on the machine stretch them less than the clock's.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image, ImageOps

from benchmarks.common import (
    Result,
    arguments_for,
    finish,
    fp8_inputs,
    fp8_option,
    spread,
    synchronise,
)
from benchmarks.engines import BACKENDS, ENGINES, Render, ready
from benchmarks.options import GIB, count, run
from benchmarks.planned import PLANNED, Planned
from benchmarks.setting import Setting, picture
from benchmarks.speeds import (
    FP8_SPEEDS,
    STEPS,
    add_options,
    caching_of,
    check,
    require_depth,
    sampled,
    schedule_of,
    told_of_unet,
    with_distilled,
)
from svd_local.engine.fused.regions import Compilation
from svd_local.engine.streams import passed_on
from svd_local.engine.values import (
    Caching,
    Pixels,
    Sampling,
    Schedule,
    ignore_check,
)
from svd_local.media.beside import Beside, Check
from svd_local.media.encode import Encoded, encode_video, encoder_settings

WARM_UP_STEPS = 2


def main() -> None:
    """Measure, print, and write the result."""
    parser = arguments_for(__doc__)
    parser.add_argument("--engine", choices=ENGINES, default="fused")
    add_options(parser)
    parser.add_argument("--runs", type=count, default=3)
    parser.add_argument("--compile-backend", choices=BACKENDS, default="inductor")
    fp8_option(parser)
    arguments = parser.parse_args()
    check(parser, arguments)
    fp8_inputs(arguments)
    schedule = schedule_of(arguments)
    with contextlib.ExitStack() as stack:
        setting = Setting.of(arguments)
        if arguments.speed == "distilled":
            setting = stack.enter_context(with_distilled(setting, arguments.distilled))
        result = measure(
            setting,
            arguments.engine,
            steps=arguments.steps or STEPS[schedule],
            schedule=schedule,
            runs=arguments.runs,
            backend=arguments.compile_backend,
            speed=arguments.speed,
            caching=caching_of(arguments),
            budget=None if arguments.budget is None else int(arguments.budget * GIB),
        )
    finish(result, arguments.json)


def measure(
    setting: Setting,
    engine: str,
    *,
    steps: int,
    schedule: Schedule = "karras",
    runs: int,
    backend: str = "inductor",
    speed: str = "exact",
    caching: Caching | None = None,
    budget: int | None = None,
) -> Result:
    """``runs`` clips after one that warms up.

    Args:
        setting: with the distilled checkpoint, where ``speed`` is distilled.
        engine: one of `ENGINES`.
        steps: of each measured clip.
        schedule: of the steps.
        runs: how many are measured.
        backend: of torch.compile, where the engine compiles.
        speed: what the result is to say.
        caching: interval and depth, where features are cached.
        budget: most bytes to plan for.

    Raises:
        ValueError: the engine is none that plans for a budget.
        InvalidRequest: the budget is below the smallest plan, or the depth beyond the network.
    """
    if budget is not None and engine not in PLANNED:
        raise ValueError(f"the {engine} engine plans for no budget")
    if caching is not None:
        require_depth(setting, caching)
    fp8 = speed in FP8_SPEEDS
    planned: Planned | None = None
    compilation: Compilation | None = None
    render: Render
    if engine in PLANNED and not fp8 and (budget is not None or setting.device == "cpu"):
        planned = Planned(engine, setting, budget)
        render = planned.render
    else:
        loaded = ready(engine, setting, backend, fp8=fp8)
        render, compilation = loaded.render, loaded.compilation

    def sampling_of(count: int) -> Sampling:
        return sampled(setting, count, schedule, caching)

    sampling = sampling_of(steps)
    few = min(steps, WARM_UP_STEPS) if schedule == "karras" else steps
    with tempfile.TemporaryDirectory(prefix="svd-local-clip-") as folder:
        source = Path(folder) / "picture.png"
        picture(setting.width * 5 // 4, setting.height * 4 // 3).save(source)
        first = one_clip(render, setting, sampling_of(few), source)
        measured = [one_clip(render, setting, sampling, source) for _ in range(runs)]
    load_s = loaded.load_s if planned is None else planned.load_s
    phases = {name: spread([run.phases[name] for run in measured]) for name in measured[0].phases}
    return {
        **setting.describe("clip"),
        "checkpoint": (setting.checkpoint.base or setting.checkpoint).name,
        "engine": engine,
        "compile_backend": backend if compiles(engine) else None,
        "compile": None if compilation is None else told(compilation),
        "speed": speed,
        "schedule": schedule,
        "steps": steps,
        "cache_interval": None if caching is None else caching.interval,
        "cache_depth": None if caching is None else caching.depth,
        "distilled": told_of_unet(setting.checkpoint),
        "budget_bytes": budget,
        "seconds_per_clip": spread([run.seconds for run in measured]),
        "gpu_s": phases["engine"]["median"],
        "processor_s": spread([run.processor_s for run in measured]),
        "load_s": round(load_s, 4),
        "to_first_step_s": round(
            load_s + first.phases["keyframe"] + first.phases["encode_image"], 4
        ),
        "warm_up": {"seconds": round(first.seconds, 4), "steps": few},
        "phases": phases,
        "step_ms": spread([ms for run in measured for ms in run.steps_ms], 3),
        **({} if planned is None else planned.plan()),
        **_memory(planned, setting, sampling_of(few), measured),
    }


def compiles(engine: str) -> bool:
    """Whether any of it is compiled."""
    return "compiled" in engine or engine == "fused-one-graph"


def told(compilation: Compilation) -> Result:
    """What compiling came to."""
    return {
        "graphs": compilation.graphs,
        "seconds": round(compilation.seconds, 3),
        "failure": compilation.failure,
    }


@dataclass(frozen=True)
class Run:
    """One clip: seconds in all, seconds by phase, milliseconds by step, bytes where a GPU says."""

    seconds: float
    phases: dict[str, float]
    steps_ms: list[float]
    peak_bytes: int | None
    reserved_bytes: int | None
    processor_s: float


def one_clip(render: Render, setting: Setting, sampling: Sampling, source: Path) -> Run:
    """From the picture ``source`` to an MP4 beside it."""
    on_gpu = setting.device.startswith("cuda")
    synchronise(setting.device)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    began, worked = time.perf_counter(), time.process_time()
    image = keyframe(source, setting)
    pictured = time.perf_counter()
    clock = StepClock(on_gpu=on_gpu)
    size = (setting.width, setting.height)

    def encode(chunks: Iterator[Pixels], check: Check) -> Encoded:
        return encode_video(
            chunks,
            source_size=size,
            output_size=size,
            fps=sampling.fps,
            target=source.with_name("clip.mp4"),
            settings=encoder_settings("standard"),
            check=check,
        )

    with Beside(encode) as encoder:
        frames = render(image, sampling, clock)
        phases = passed_on(frames, lambda chunk: encoder.put(chunk, ignore_check))
        synchronise(setting.device)
        made, processor_s = time.perf_counter(), time.process_time() - worked
        encoder.result(ignore_check)
    ended = time.perf_counter()
    return Run(
        ended - began,
        {
            "keyframe": pictured - began,
            "engine": made - pictured,
            "encode_image": phases.encode_image_s,
            "denoise": phases.denoise_s,
            "decode": phases.decode_s,
            "encode_video": ended - made,
        },
        clock.steps_ms(),
        torch.cuda.max_memory_allocated() if on_gpu else None,
        torch.cuda.max_memory_reserved() if on_gpu else None,
        processor_s,
    )


def keyframe(source: Path, setting: Setting) -> Image.Image:
    """The picture as the model wants it: RGB, cut to its sides' ratio, at its size."""
    with Image.open(source) as opened:
        size = (setting.width, setting.height)
        return ImageOps.fit(opened.convert("RGB"), size, Image.Resampling.LANCZOS)


class StepClock:
    """Hears of progress and notes when each step ended: on the GPU's own clock, where there is one."""

    def __init__(self, *, on_gpu: bool) -> None:
        self._on_gpu = on_gpu
        self._marks: list[torch.cuda.Event | float] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage == "denoise":
            if done == 0:  # a clip that is begun anew forgets the one before
                self._marks.clear()
            self._marks.append(self._now())

    def steps_ms(self) -> list[float]:
        """Milliseconds of each step; call it when everything queued is done."""
        return [_between(start, end) for start, end in pairwise(self._marks)]

    def _now(self) -> torch.cuda.Event | float:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _between(start: torch.cuda.Event | float, end: torch.cuda.Event | float) -> float:
    if isinstance(start, float) or isinstance(end, float):
        assert isinstance(start, float)
        assert isinstance(end, float)
        return (end - start) * 1e3
    return float(start.elapsed_time(end))


def _memory(
    planned: Planned | None, setting: Setting, sampling: Sampling, runs: list[Run]
) -> Result:
    """The largest peak of the measured runs; on the CPU that of one more run, counted."""
    if setting.device.startswith("cuda"):
        return {
            "peak_bytes": max(run.peak_bytes or 0 for run in runs),
            "reserved_bytes": max(run.reserved_bytes or 0 for run in runs),
            "peak_is": "torch's allocator, weights included",
        }
    if planned is None:  # what is counted are torch's operations, and what is compiled are others
        return {"peak_bytes": None, "peak_is": None}
    return {
        "peak_bytes": planned.peak(picture(setting.width, setting.height), sampling),
        "peak_is": "living tensors of a clip of few steps, weights included",
    }


if __name__ == "__main__":
    run(main)
