"""Run the measurements one after another, each once, for as long as there is time.

    benchmarks/run_gpu.sh [--results DIR] [--done benchmarks/results] [--minutes 9] [--files 8]
                          [--device cuda|cpu] [--checkpoint NAME] [--only NAME,...] [--skip NAME,...] [--list]

A step whose ``NAME.json`` lies in ``--results`` or ``--done`` is not repeated, so the same command goes on
where the last one stopped, whatever stopped it. A result appears whole, when its step ends. A step that
fails is told and passed over, and so is one that is too long for the time left, or would go by a result that
is still to come: shorter ones fill that time. At most ``--files`` results are written in one run. ``--device cpu`` rehearses
every step in small; its results say so and belong nowhere. What is not installed is told before any work, with
exit status 2.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from benchmarks.steps import Scale, Step, scale_for, steps

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
NEEDED = (
    *("torch", "diffusers", "transformers", "accelerate", "huggingface_hub", "safetensors"),
    *("numpy", "PIL", "imageio_ffmpeg", "importlib_metadata"),
)
"""Modules without which most steps fail."""
WANTED = {"triton": "no kernel of our own runs", "pynvml": "results do not name the driver"}
"""Those whose lack costs something, and what."""
SHOWN_LINES = 15
"""Of what a failed step said last."""


def main() -> int:
    """Exit status 0, 1 where a step failed, or 2 where something is not installed."""
    arguments = parse()
    scale = scale_for(arguments.device, arguments.checkpoint)
    chosen = [step for step in steps(scale) if selected(step, arguments)]
    if arguments.list:
        for step in chosen:
            print(step.name, "python -m", f"benchmarks.{step.module}", *step.options)
        return 0
    for name in absent(WANTED):
        print(f"{name} is not installed: {WANTED[name]}", flush=True)
    if lacking := absent(NEEDED):
        print(f"not installed: {', '.join(lacking)}; see benchmarks/README.md", file=sys.stderr)
        return 2
    with stopped_by_signals():
        return Run(arguments, scale).all(chosen)


def parse(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/run_gpu.sh", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--results", type=Path, help="where results go")
    parser.add_argument("--done", type=Path, action="append", help="more results that exist")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all steps together")
    parser.add_argument("--files", type=int, default=8, help="most results of one run")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--checkpoint", help="instead of full-size random weights")
    parser.add_argument("--only", help="steps, separated by commas")
    parser.add_argument("--skip", help="steps, separated by commas")
    parser.add_argument("--list", action="store_true", help="say what would run, and stop")
    arguments = parser.parse_args(given)
    if arguments.results is None:
        if arguments.device == "cpu":
            parser.error("--device cpu only rehearses: name a folder of its own with --results")
        arguments.results = RESULTS
    return arguments


def selected(step: Step, arguments: argparse.Namespace) -> bool:
    """Whether the step is among those asked for."""
    only = arguments.only.split(",") if arguments.only else [step.name]
    skip = arguments.skip.split(",") if arguments.skip else []
    return step.name in only and step.name not in skip


def absent(names: Iterable[str]) -> list[str]:
    """Those of these modules that are not installed; none is loaded."""
    return [name for name in names if find_spec(name) is None]


class Stopped(BaseException):
    """Somebody asked us to stop."""


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within it a polite signal ends the step that runs, and then us."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(signal.Signals(number).name)

    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stop)
        yield
    except Stopped as stopped:
        print(f"stopped by {stopped}", flush=True)
        raise SystemExit(130) from None


@dataclass
class Run:
    """One run of the script."""

    arguments: argparse.Namespace
    scale: Scale

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._results: Path = self.arguments.results
        self._known = [self._results, *(self.arguments.done or [])]

    def all(self, chosen: list[Step]) -> int:
        """Every step that has no result yet; says what is left when time or files run out."""
        left = [step for step in chosen if not self._has_result(step)]
        self._say(f"{len(chosen) - len(left)} of {len(chosen)} results are there")
        failed: list[str] = []
        waiting: list[str] = []
        written = 0
        for step in left:
            if self._waits(step, written, waiting):
                waiting.append(step.name)
            elif self._step(step):
                written += 1
            else:
                failed.append(step.name)
        if waiting:
            full = written >= self.arguments.files
            why = "as many results as one run may write" if full else "too little time"
            self._say(f"{why}; left for the next run: {', '.join(waiting)}")
        else:
            self._say("nothing is left" if not failed else "nothing else is left")
        if failed:
            self._say(f"failed: {', '.join(failed)}")
        return 1 if failed else 0

    def _has_result(self, step: Step) -> bool:
        return any((folder / f"{step.name}.json").is_file() for folder in self._known)

    def _given(self, step: Step) -> list[str]:
        """Options with the earlier results that there are; without them torch does what it does."""
        options: list[str] = []
        for name in step.given:
            places = [folder / f"{name}.json" for folder in self._known]
            found = next((path for path in places if path.is_file()), None)
            if found is not None:
                options += [f"--{name.partition('_')[0]}", str(found.resolve())]
        return options

    def _waits(self, step: Step, written: int, waiting: list[str]) -> bool:
        """Whether it is for another run; one that only lacks time says so."""
        if written >= self.arguments.files or set(step.given) & set(waiting):
            return True
        left = self._time_left()
        if left < step.usual_s * self.scale.hurry:
            self._say(f"{left:.0f} s left, too few for {step.name}")
            return True
        return False

    def _time_left(self) -> float:
        spent = time.monotonic() - self._began
        return float(self.arguments.minutes * 60 - spent)

    def _step(self, step: Step) -> bool:
        """Run it; True where its result is written."""
        limit = min(step.limit_s, self._time_left())
        self._say(f"{step.name}: begins, at most {limit:.0f} s")
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="svd-local-step-") as folder:
            result, log = Path(folder) / "result.json", Path(folder) / "log"
            command = [sys.executable, "-m", f"benchmarks.{step.module}", *step.options]
            command += self._given(step)
            ended = run_limited([*command, "--json", str(result)], log, limit)
            took = time.monotonic() - began
            if ended != 0 or not result.is_file():
                self._say(f"{step.name}: failed after {took:.0f} s ({ended})")
                for line in log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]:
                    print("   ", line, flush=True)
                return False
            publish(result, self._results / f"{step.name}.json")
        told = headline(self._results / f"{step.name}.json")
        self._say(f"{step.name}: done in {took:.0f} s{told}")
        return True

    def _say(self, what: str) -> None:
        print(f"[{time.monotonic() - self._began:5.0f} s] {what}", flush=True)


def run_limited(command: list[str], log: Path, limit_s: float) -> int | str:
    """Exit status, or ``"out of time"``; neither the program nor what it started outlives this call."""
    environment = {**os.environ, "PYTHONPATH": _with_root(os.environ.get("PYTHONPATH"))}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env=environment,
            process_group=0,
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return "out of time"
        finally:
            # Compilers that a step leaves behind are of its group and go with it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _with_root(path: str | None) -> str:
    return os.pathsep.join([str(ROOT), *([path] if path else [])])


def publish(result: Path, target: Path) -> None:
    """Under its name there is the whole result or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.part")
    shutil.copyfile(result, draft)
    draft.replace(target)


def headline(path: Path) -> str:
    """The few numbers worth a line of the log."""
    result = json.loads(path.read_text(encoding="utf-8"))
    told = {
        "gpu_s": result.get("gpu_s"),
        "step_ms": (result.get("step_ms") or {}).get("median"),
        "peak_GiB": round(result["peak_bytes"] / 2**30, 2) if result.get("peak_bytes") else None,
        "compile_s": (result.get("compile") or {}).get("seconds"),
        "passed": result.get("passed"),
        "saved_ms_a_step": result.get("saved_ms_a_step"),
        "library_ms": result.get("library_ms"),
    }
    known = [f"{name} {value}" for name, value in told.items() if value is not None]
    return f": {', '.join(known)}" if known else ""


if __name__ == "__main__":
    sys.exit(main())
