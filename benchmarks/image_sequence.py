"""A 4 s zoom over a still at 1080p, 24 fps: our renderer against MoviePy's, and our peak memory.

    python benchmarks/image_sequence.py [--runs N] [--quality fast|standard|high] [--picture WxH ...]

Both sides get the same picture file, x264 preset, CRF and ffmpeg, zoom by the same factor, and are
timed from the start of their process to its end, by turns. Each run waits for the machine to be
quiet, and one in which other programs used the processor after all is made again and not counted,
unless all were disturbed. MoviePy needs an older Pillow, so it lives in an environment of its own,
``.venv-moviepy``, made on first use from the package index. The memory is the sum of the resident
sets of our process and the ffmpeg under it, sampled every 10 ms; ``whole_path`` is that of the command
line with everything it does beside. Writes results/image_sequence.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.options import count, run

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "image_sequence.json"
MOVIEPY_HOME = HERE.parent / ".venv-moviepy"
MOVIEPY = ("moviepy==2.2.1", "pillow<12")
SECONDS, FPS, FRAME = 4, 24, (1920, 1080)
TARGET_RATIO, TARGET_BYTES = 3.0, 900_000_000
PICTURES = ("3840x2160", "2400x1350")
"""Sizes of the source: as cameras make them, and reduced beforehand to what the zoom can use, which
spares MoviePy the work that we do once and it does in every frame."""
OTHERS_SHARE = 0.05
"""Share of the processor that other programs may take in a run that counts."""
QUIET_S = 20.0
"""Seconds a run waits for others to finish, at most."""
MOST_TURNS = 4
"""Turns made at most, per run wanted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=count, default=5)
    parser.add_argument("--quality", choices=("fast", "standard", "high"), default="standard")
    parser.add_argument("--picture", nargs="+", default=PICTURES, help="sizes of the source")
    parser.add_argument("--ours", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        make_ours(*arguments.ours)
        return
    result = measure(arguments.runs, arguments.quality, arguments.picture)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(runs: int, quality: str, pictures: Sequence[str]) -> dict[str, Any]:
    """Both sides on pictures of every size, and on what all that was measured."""
    from svd_local.media.encode import encoder_settings
    from svd_local.media.ffmpeg import version as ffmpeg_version

    settings = encoder_settings(quality)
    return {
        "what": f"{SECONDS} s zoom at {FPS} fps, {FRAME[0]}x{FRAME[1]}, whole processes, by turns",
        "x264": {"quality": quality, "preset": settings.preset, "crf": settings.crf},
        "target": {"times_faster": TARGET_RATIO, "peak_rss_bytes": TARGET_BYTES},
        "pictures": {size: compare(runs, quality, size) for size in pictures},
        "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {
            "python": platform.python_version(),
            "pillow": version("pillow"),
            "numpy": version("numpy"),
            "ffmpeg": ffmpeg_version(),
            "moviepy": MOVIEPY[0].partition("==")[2],
        },
    }


def compare(runs: int, quality: str, size: str) -> dict[str, Any]:
    """Both sides on one picture, and what that says about the targets."""
    from svd_local.media.binary import executable
    from svd_local.media.encode import encoder_settings
    from svd_local.tiers.stills.camera import MAX_ZOOM

    settings = encoder_settings(quality)
    numbers = (SECONDS, FPS, *FRAME, MAX_ZOOM, settings.preset, settings.crf)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "picture.jpg")
        width, _, height = size.partition("x")
        paint((int(width), int(height))).save(picture, quality=92)
        files = {side: Path(folder, f"{side}.mp4") for side in ("ours", "moviepy")}
        arguments = {side: (str(picture), str(file)) for side, file in files.items()}
        theirs = moviepy_python(), str(HERE / "moviepy_zoom.py")
        commands = {
            "ours": [sys.executable, __file__, "--ours", *arguments["ours"], quality],
            "moviepy": [*theirs, *arguments["moviepy"], *map(str, numbers)],
        }
        made = take_turns(commands, {**os.environ, "FFMPEG_BINARY": str(executable())}, runs)
        sides = {side: summary(made[side], file.stat().st_size) for side, file in files.items()}
        whole = Run.of(whole_path(picture, quality), {**os.environ, "SVD_LOCAL_MEDIA_DIR": folder})
    ratio = sides["moviepy"]["median_s"] / sides["ours"]["median_s"]
    return {
        **sides,
        "whole_path": {"seconds": round(whole.seconds, 3), "peak_rss_bytes": whole.peak_bytes},
        "times_faster": round(ratio, 2),
        "reached": {
            "times_faster": ratio >= TARGET_RATIO,
            "peak_rss_bytes": whole.peak_bytes <= TARGET_BYTES,
        },
    }


def whole_path(picture: Path, quality: str) -> list[str]:
    """The command line that does all: keyframe, letters, frames, encoding, checks, catalog."""
    command = [sys.executable, "-m", "svd_local", "generate", "--tier", "image-sequence", "--json"]
    command += ["--image", str(picture), "--title", "Lesson 3: Ünïcödé", "--quality", quality]
    return [*command, "--resolution", "1080p", "--duration", str(SECONDS)]


def take_turns(
    commands: dict[str, list[str]], environment: dict[str, str], runs: int
) -> dict[str, list[Run]]:
    """Every command by turns until each has ``runs`` undisturbed runs, after one that is not kept."""
    for command in commands.values():
        Run.of(command, environment)
    made: dict[str, list[Run]] = {side: [] for side in commands}
    for turn in range(1, MOST_TURNS * runs + 1):
        for side, command in commands.items():
            made[side].append(run := Run.of(command, environment))
            print(f"turn {turn}, {side}: {run}", file=sys.stderr, flush=True)
        if all(sum(run.in_peace for run in of_side) >= runs for of_side in made.values()):
            break
    return made


def summary(made: list[Run], file_bytes: int) -> dict[str, Any]:
    """What one side's undisturbed runs came to, or all of its runs where none was left in peace."""
    in_peace = [run for run in made if run.in_peace]
    counted = in_peace or made
    return {
        "median_s": round(statistics.median(run.seconds for run in counted), 3),
        "runs_s": [round(run.seconds, 3) for run in counted],
        "runs": {"made": len(made), "undisturbed": len(in_peace)},
        "processor_s": round(statistics.median(run.processor_s for run in counted), 2),
        "peak_rss_bytes": max(run.peak_bytes for run in made),
        "file_bytes": file_bytes,
    }


def make_ours(picture: str, output: str, quality: str) -> None:
    """Our side: from the picture file to the MP4, through the tier and the encoder."""
    from svd_local.keyframe.types import Keyframe
    from svd_local.media.encode import encode_video, encoder_settings
    from svd_local.request import ClipRequest
    from svd_local.tiers.base import Job, Monitor
    from svd_local.tiers.image_sequence import ImageSequenceTier
    from svd_local.tiers.stills.camera import choose_moves

    seed = next(s for s in range(1000) if choose_moves(1, s)[0].name == "zoom-in")
    request = ClipRequest(image=Path(picture), resolution="1080p", duration=SECONDS, seed=seed)
    tier = ImageSequenceTier()
    plan = tier.plan(request)
    image = Image.open(picture).convert("RGB")
    if image.size != plan.size:
        image = image.resize(plan.size, Image.Resampling.LANCZOS)
    frames = tier.generate(Job(request, plan, (Keyframe(image, "x", "picture"),), Monitor()))
    encode_video(
        frames.chunks,
        source_size=plan.output_size,
        output_size=plan.output_size,
        fps=plan.fps,
        target=Path(output),
        settings=encoder_settings(quality),
        pixels=frames.pixels,
    )


@dataclass(frozen=True)
class Run:
    """One process from its start to its end."""

    seconds: float
    processor_s: float
    """Processor seconds of the process and what it started."""
    others_s: float
    """Processor seconds of everything else on the machine meanwhile."""
    peak_bytes: int

    @property
    def in_peace(self) -> bool:
        """Whether other programs left the processor alone."""
        return self.others_s < OTHERS_SHARE * (os.cpu_count() or 1) * self.seconds

    @classmethod
    def of(cls, command: list[str], environment: dict[str, str]) -> Run:
        _await_quiet()
        before, busy = os.times(), _busy_s()
        began = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        peak, over = [0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, over))
        watcher.start()
        status = process.wait()
        seconds = time.perf_counter() - began
        over.set()
        watcher.join()
        if status != 0:
            raise SystemExit(f"{Path(command[1]).name} ended with status {status}")
        after, busy = os.times(), _busy_s() - busy
        used = after.children_user + after.children_system
        used -= before.children_user + before.children_system
        own = after.user + after.system - before.user - before.system
        return cls(seconds, used, busy - used - own, peak[0])


def _await_quiet() -> None:
    """Wait until the processor has been nearly idle for a second, at most ``QUIET_S``."""
    until = time.monotonic() + QUIET_S
    while time.monotonic() < until:
        busy = _busy_s()
        time.sleep(1.0)
        if _busy_s() - busy < OTHERS_SHARE * (os.cpu_count() or 1):
            return


def _busy_s() -> float:
    """Processor seconds the whole machine has spent on anything but idling and waiting."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _watch(pid: int, peak: list[int], over: threading.Event) -> None:
    while not over.wait(0.01):
        peak[0] = max(peak[0], _tree_bytes(pid))


def _tree_bytes(pid: int) -> int:
    """Resident bytes of a process and all below it; of those that end meanwhile, nothing."""
    try:
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        below = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return 0
    return total + sum(map(_tree_bytes, below))


def moviepy_python() -> str:
    """The interpreter of MoviePy's environment, made where it is missing."""
    python = MOVIEPY_HOME / "bin" / "python"
    ready = MOVIEPY_HOME / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(MOVIEPY_HOME)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *MOVIEPY]
        subprocess.run(install, check=True)
        ready.touch()
    return str(python)


def paint(size: tuple[int, int]) -> Image.Image:
    """A picture with a photograph's share of fine and coarse detail, the same always.

    Its spectrum falls as 1/f, as that of natural scenes does, through a lens that passes half of the
    contrast at half of what the pixels could hold.
    """
    width, height = size
    rng = np.random.default_rng(0)
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(y, x)
    falloff = 0.5 ** ((frequency / 0.25) ** 2) / np.maximum(frequency, 1.0 / width)
    layers = []
    for _ in range(3):
        spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * falloff
        layers.append(np.fft.irfft2(spectrum, (height, width)))
    light = np.stack(layers, -1)
    light = 0.8 * light[..., :1] + 0.2 * light
    light = 128 + 52 * (light - light.mean()) / light.std()
    return Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))


def processor() -> str:
    """The processor's name as the system tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    run(main)
