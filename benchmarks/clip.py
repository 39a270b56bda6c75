"""Seconds and gigabytes of one clip, from a picture on disk to an MP4 on disk, by phase.

    python -m benchmarks.clip [--device cpu|cuda] [--checkpoint NAME] [--engine reference|compiled|fused|fused-compiled|...]
                              [--speed exact|cached|fp8|fp8+cached] [--attention RESULT] [--frames N] [--steps N] [--schedule karras|align-your-steps] [--runs N] [--json FILE]

Loads once, makes one clip to warm up (few steps where the schedule allows), then measures ``--runs``
whole clips. ``to_first_step_s`` is what passed before the first of them began to denoise, imports apart:
loading, folding, encoding; with ``--from-disk`` that reads files. ``gpu_s`` is the median time from the picture's encoding to the last frame in main memory,
``seconds_per_clip`` has the picture's reading and the video's encoding beside. As in ``svd-local``, a
thread encodes the frames while the next ones are decoded: the phase ``encode_video`` is what was left of
it after the last frame. Milliseconds per step
are taken with events of the GPU, so nothing waits for them. ``compile`` says what was compiled in parts, in
how many seconds, all of them in the warm-up; the cache on disk makes the second process quicker. ``peak_bytes`` is, on CUDA, the most that
torch's allocator had handed out within one clip (statistics reset before each), weights included; on
the CPU the most bytes of living tensors in a run of its own, weights not included.
"""

from __future__ import annotations

import dataclasses
import json
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
    gpu_name,
    spread,
    synchronise,
)
from benchmarks.engines import BACKENDS, ENGINES, Render, ready
from benchmarks.setting import Setting, picture
from svd_local.engine.fused.attention import is_known, learn
from svd_local.engine.fused.counting import peak_bytes
from svd_local.engine.fused.regions import Compilation
from svd_local.engine.streams import drained, passed_on
from svd_local.engine.values import (
    Caching,
    Pixels,
    Sampling,
    Schedule,
    ignore_check,
    ignore_report,
)
from svd_local.media.beside import Beside, Check
from svd_local.media.encode import Encoded, encode_video, encoder_settings

SPEEDS = ("exact", "cached", "fp8", "fp8+cached")
CACHING = Caching(interval=3, depth=1)
"""As ``--speed cached`` has it by default."""
WARM_UP_STEPS = 2


def main() -> None:
    """Measure, print, and write the result."""
    parser = arguments_for(__doc__)
    parser.add_argument("--engine", choices=ENGINES, default="fused")
    parser.add_argument("--speed", choices=SPEEDS, default="exact")
    parser.add_argument("--schedule", choices=("karras", "align-your-steps"), default="karras")
    parser.add_argument("--steps", type=int, help="25, or the ten of align-your-steps")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--compile-backend", choices=BACKENDS, default="inductor")
    parser.add_argument("--attention", type=Path, help="a result of benchmarks.attention to go by")
    fp8_option(parser)
    arguments = parser.parse_args()
    fp8_inputs(arguments)
    if arguments.attention is not None:
        learn_attention(arguments.attention)
    steps = arguments.steps or (25 if arguments.schedule == "karras" else 10)
    result = measure(
        Setting.of(arguments),
        arguments.engine,
        steps=steps,
        schedule=arguments.schedule,
        runs=arguments.runs,
        backend=arguments.compile_backend,
        speed=arguments.speed,
    )
    finish(result, arguments.json)


def learn_attention(path: Path) -> None:
    """Go by what `benchmarks.attention` measured on this GPU, as if it were in the package."""
    result = json.loads(path.read_text(encoding="utf-8"))
    learn(result["gpu"] or "", result["rows"])


def measure(
    setting: Setting,
    engine: str,
    *,
    steps: int,
    schedule: Schedule = "karras",
    runs: int,
    backend: str = "inductor",
    speed: str = "exact",
) -> Result:
    """``runs`` clips after one that warms up."""
    loaded = ready(engine, setting, backend, fp8=speed.startswith("fp8"))

    def sampling_of(count: int) -> Sampling:
        made = setting.sampling(count, schedule)
        return dataclasses.replace(made, caching=CACHING) if speed.endswith("cached") else made

    sampling = sampling_of(steps)
    few = min(steps, WARM_UP_STEPS) if schedule == "karras" else steps
    with tempfile.TemporaryDirectory(prefix="svd-local-clip-") as folder:
        source = Path(folder) / "picture.png"
        picture(setting.width * 5 // 4, setting.height * 4 // 3).save(source)
        first = one_clip(loaded.render, setting, sampling_of(few), source)
        measured = [one_clip(loaded.render, setting, sampling, source) for _ in range(runs)]
    phases = {name: spread([run.phases[name] for run in measured]) for name in measured[0].phases}
    return {
        **setting.describe("clip"),
        "engine": engine,
        "compile_backend": backend if compiles(engine) else None,
        "compile": None if loaded.compilation is None else told(loaded.compilation),
        "attention": "measured" if is_known(str(gpu_name(setting.device))) else "torch's choice",
        "speed": speed,
        "schedule": schedule,
        "steps": steps,
        "seconds_per_clip": spread([run.seconds for run in measured]),
        "gpu_s": phases["engine"]["median"],
        "load_s": round(loaded.load_s, 4),
        "to_first_step_s": round(
            loaded.load_s + first.phases["keyframe"] + first.phases["encode_image"], 4
        ),
        "warm_up": {"seconds": round(first.seconds, 4), "steps": few},
        "phases": phases,
        "step_ms": spread([ms for run in measured for ms in run.steps_ms], 3),
        **_memory(loaded.render, engine, setting, few, schedule, measured),
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


def one_clip(render: Render, setting: Setting, sampling: Sampling, source: Path) -> Run:
    """From the picture ``source`` to an MP4 beside it."""
    on_gpu = setting.device.startswith("cuda")
    synchronise(setting.device)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
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
        made = time.perf_counter()
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
    render: Render, engine: str, setting: Setting, steps: int, schedule: Schedule, runs: list[Run]
) -> Result:
    """The largest peak of the measured runs; on the CPU that of one more run, counted."""
    if setting.device.startswith("cuda"):
        return {
            "peak_bytes": max(run.peak_bytes or 0 for run in runs),
            "reserved_bytes": max(run.reserved_bytes or 0 for run in runs),
            "peak_is": "torch's allocator, weights included",
        }
    if compiles(engine):  # what is counted are torch's operations, and these are others
        return {"peak_bytes": None, "peak_is": None}
    image, sampling = picture(setting.width, setting.height), setting.sampling(steps, schedule)
    return {
        "peak_bytes": peak_bytes(lambda: drained(render(image, sampling, ignore_report)), "cpu"),
        "peak_is": "living tensors of a clip of few steps, weights apart",
    }


if __name__ == "__main__":
    main()
