"""A clip within ever less memory: the plan taken, its predicted and measured peak, its time, its pixels.

    python -m benchmarks.memory [--device cpu|cuda] [--checkpoint NAME] [--engine fused|reference]
                                [--caps 24,16,12,8,6,4] [--steps N] [--frames N] [--json FILE]

``--caps`` are sizes of cards in GiB. On CUDA each is made real: torch's allocator gets a hard limit
0.7 GiB below it, which is about what the context takes that the limit does not count, and the plan's
budget is the cap. On the CPU a cap is only the plan's budget. Every cap has a process of its own, so
that running out of memory in one spoils no other; the first run has none and is what the others are
compared with. Of two clips in a process the second is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import learned
from benchmarks.clip import StepClock
from benchmarks.common import Result, arguments_for, finish, spread, synchronise, write_json
from benchmarks.correctness import levels
from benchmarks.options import count, gib, run, seconds, several
from benchmarks.setting import Setting, picture
from svd_local.engine.session import Session
from svd_local.engine.takes import Gathered, gathered
from svd_local.errors import SvdLocalError

GIB = 2**30
CONTEXT_BYTES = int(0.7 * GIB)
CAPS = {"cuda": (24, 16, 12, 8, 6, 4), "cpu": (0.5, 0.1)}


def main() -> None:
    """Run every cap, print, and write the result; or be the process of one cap."""
    arguments = parse()
    if arguments.one:
        write_json(arguments.json, one_cap(arguments))
    else:
        finish(measure(arguments), arguments.json)


def parse(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = arguments_for(__doc__)
    parser.add_argument("--engine", choices=("fused", "reference"), default="fused")
    parser.add_argument("--caps", type=several(gib), help="GiB, separated by commas")
    parser.add_argument("--steps", type=count, default=5)
    parser.add_argument("--seconds-each", type=seconds, default=150, help="the longest for one cap")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--pixels", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def measure(arguments: argparse.Namespace) -> Result:
    """Without a cap, then under each, the largest first."""
    # Weights that are made on the GPU would have to fit there first: under a cap they are read.
    arguments.from_disk = arguments.from_disk or arguments.device == "cuda"
    runs: list[Result] = []
    resident: np.ndarray[Any, Any] | None = None
    with tempfile.TemporaryDirectory(prefix="svd-local-memory-") as folder:
        for size in [None, *sorted(arguments.caps or CAPS[arguments.device], reverse=True)]:
            run, pixels = in_own_process(arguments, size, Path(folder))
            if size is None:
                resident = pixels
            elif pixels is not None and resident is not None:
                run["against_uncapped"] = levels(pixels, resident)
            runs.append(run)
            print(json.dumps(run), file=sys.stderr, flush=True)
    # Only now, because a process that has been on the GPU takes room there, and would be counted.
    setting = Setting.of(arguments)
    return {
        **setting.describe("memory"),
        "engine": arguments.engine,
        "steps": arguments.steps,
        "context_bytes": CONTEXT_BYTES,
        "capped": "by torch's allocator" if setting.device == "cuda" else "by the plan alone",
        "runs": runs,
    }


def in_own_process(
    arguments: argparse.Namespace, cap_gib: float | None, folder: Path
) -> tuple[Result, np.ndarray[Any, Any] | None]:
    """One cap's result and its frames, where there are any."""
    name = "uncapped" if cap_gib is None else f"{cap_gib:g}"
    result, pixels = folder / f"{name}.json", folder / f"{name}.npy"
    command = [sys.executable, "-m", "benchmarks.memory", "--one"]
    command += ["--device", arguments.device, "--checkpoint", arguments.checkpoint]
    command += ["--engine", arguments.engine, "--steps", str(arguments.steps)]
    command += ["--kernels", arguments.kernels, *learned.given(arguments)]
    for option in ("dtype", "width", "height", "frames"):
        value = getattr(arguments, option)
        command += [f"--{option}", str(value)] if value else []
    command += ["--from-disk"] if arguments.from_disk else []
    command += ["--caps", str(cap_gib)] if cap_gib is not None else []
    command += ["--json", str(result), "--pixels", str(pixels)]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=arguments.seconds_each, check=False
        )
    except subprocess.TimeoutExpired:
        return {"cap_gib": cap_gib, "outcome": "timed-out"}, None
    if not result.is_file():
        last = ended.stderr.strip().splitlines()[-1:] or ["no word"]
        return {"cap_gib": cap_gib, "outcome": "died", "error": last[0]}, None
    found: Result = json.loads(result.read_text(encoding="utf-8"))
    return found, np.load(pixels) if pixels.is_file() else None


def one_cap(arguments: argparse.Namespace) -> Result:
    """Under one cap, in this process, whose memory is limited from here on."""
    setting = Setting.of(arguments)
    (cap_gib,) = arguments.caps or (None,)
    budget = None if cap_gib is None else int(cap_gib * GIB)
    if budget is not None and setting.device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((budget - CONTEXT_BYTES) / total)
    watch = DeviceWatch(setting)
    session = Session(
        setting.checkpoint, setting.device, setting.precision, kernels=arguments.kernels
    )
    image, sampling = picture(setting.width, setting.height), setting.sampling(arguments.steps)

    def make() -> Gathered:
        engine = arguments.engine
        return gathered(session.make(image, sampling, engine=engine, budget=budget, report=watch))

    result: Result = {"cap_gib": cap_gib, "budget_bytes": budget}
    try:
        began = time.perf_counter()
        make()
        warmed = time.perf_counter()
        watch.clear()
        made = make()
        ended = time.perf_counter()
    except (SvdLocalError, torch.OutOfMemoryError) as error:
        outcome = error.code if isinstance(error, SvdLocalError) else "out-of-memory"
        said = f"{error}. {error.hint}" if isinstance(error, SvdLocalError) else str(error)
        return {**result, "outcome": outcome, "error": said.strip()}
    np.save(arguments.pixels, made.frames)
    memory = made.memory
    return {
        **result,
        "outcome": "ok",
        "engine": made.engine,
        "plan": memory.plan,
        "predicted_peak_bytes": memory.predicted_peak_bytes,
        "measured_peak_bytes": memory.measured_peak_bytes,
        **watch.bytes(),
        "first_s": round(warmed - began, 3),
        "seconds": round(ended - warmed, 3),
        "encode_image_s": round(made.phases.encode_image_s, 4),
        "denoise_s": round(made.phases.denoise_s, 4),
        "decode_s": round(made.phases.decode_s, 4),
        "step_ms": spread(watch.clock.steps_ms(), 3),
        "notes": list(made.notes),
    }


class DeviceWatch:
    """Hears of progress; keeps the step's times, and the most of the GPU that was in use then."""

    def __init__(self, setting: Setting) -> None:
        self._device = setting.device
        self._on_gpu = setting.device.startswith("cuda")
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.clock = StepClock(on_gpu=self._on_gpu)
        self._used = 0
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.clock(stage, done, total)
        if self._on_gpu:
            free, everything = torch.cuda.mem_get_info()
            self._used = max(self._used, everything - free)

    def bytes(self) -> Result:
        """What the GPU says beside the plan's own measurement; nothing on the CPU."""
        synchronise(self._device)
        if not self._on_gpu:
            return {}
        return {
            "reserved_bytes": torch.cuda.max_memory_reserved(),
            "used_bytes": self._used,
        }


if __name__ == "__main__":
    run(main)
