"""What svd_local adds around the bare pipeline call and the bare encode, in seconds a clip.

    python -m benchmarks.overhead [--runs N] [--steps N] [--json benchmarks/results/overhead.json]

In one process, with the tiny checkpoint loaded on the CPU, two things are done by turns: a whole
``VideoGenerator.generate`` (plan, fingerprint, keyframe, frames, checks, encode, decode back, poster,
publish, catalog row), and the bare pipeline with nothing but the encode after it. The pipeline's own
time is taken within both, because it varies by more than what is looked for; ``overhead_s`` is
generate's time less the pipeline's within it, less the bare encode of the same turn. The plain
difference of the two is given as well.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.options import count, run, target

TARGET_S = 0.30
SIZE = (256, 144)
FRAMES = 14
FPS = 7
SEED = 1
_LIBRARIES = ("torch", "diffusers", "transformers", "pillow", "imageio-ffmpeg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=count, default=9)
    parser.add_argument("--steps", type=count, default=25)
    parser.add_argument("--json", type=target, help="file to write the result to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="svd-local-overhead-") as folder:
        result = measure(Path(folder), runs=arguments.runs, steps=arguments.steps)
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text, encoding="utf-8")


def measure(folder: Path, *, runs: int, steps: int) -> dict[str, Any]:
    """``runs`` pairs after one unmeasured pair, by turns; everything is written below ``folder``."""
    import torch

    picture = folder / "picture.png"
    draw_picture().save(picture)
    generate, close = prepare_ours(folder, picture, steps)
    bare = prepare_bare(folder, picture, steps)
    turns: list[dict[str, float]] = []
    try:
        with pipeline_clock() as clock:
            for turn in range(runs + 1):
                order = (generate, bare) if turn % 2 else (bare, generate)
                spent = {}
                for side in order:
                    clock.clear()
                    started = time.perf_counter()
                    side()
                    spent[side] = (time.perf_counter() - started, sum(clock))
                if turn:
                    turns.append(one_turn(*spent[generate], *spent[bare]))
    finally:
        close()
    overhead = spread([turn["overhead_s"] for turn in turns])
    return {
        "benchmark": "overhead",
        "device": "cpu",
        "checkpoint": "tiny-svd",
        "synthetic": True,
        "frames": FRAMES,
        "steps": steps,
        "width": SIZE[0],
        "height": SIZE[1],
        "runs": runs,
        "overhead_s": overhead,
        "target_s": TARGET_S,
        "reached": overhead["median"] <= TARGET_S,
        "difference_s": spread([turn["difference_s"] for turn in turns]),
        "pipeline_s": spread([turn["pipeline_s"] for turn in turns]),
        "bare_encode_s": spread([turn["bare_encode_s"] for turn in turns]),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "python": platform.python_version(),
            "system": platform.system(),
        },
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def one_turn(
    ours_s: float, ours_pipeline_s: float, bare_s: float, bare_pipeline_s: float
) -> dict[str, float]:
    """The figures of one pair, from wall time and the pipeline's share on either side."""
    bare_encode_s = bare_s - bare_pipeline_s
    return {
        "overhead_s": ours_s - ours_pipeline_s - bare_encode_s,
        "difference_s": ours_s - bare_s,
        "pipeline_s": bare_pipeline_s,
        "bare_encode_s": bare_encode_s,
    }


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "n": len(values),
    }


def prepare_ours(
    folder: Path, picture: Path, steps: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A call that makes one clip through the whole package, and one that ends it."""
    from svd_local.generator import VideoGenerator
    from svd_local.request import ClipRequest
    from svd_local.settings import Settings

    settings = Settings.load(media_dir=folder / "media", models_dir=folder / "models")
    generator = VideoGenerator(settings)
    request = ClipRequest(
        image=picture,
        tier="local",
        checkpoint="tiny-svd",
        engine="reference",
        device="cpu",
        frames=FRAMES,
        steps=steps,
        seed=SEED,
        no_cache=True,
    )

    def generate() -> None:
        clip = generator.generate(request)
        assert clip.frames == FRAMES

    return generate, generator.close


def prepare_bare(folder: Path, picture: Path, steps: int) -> Callable[[], None]:
    """A call of the pipeline as its documentation says, and of the encoder on what it gives."""
    import torch

    from svd_local.engine.checkpoints import resolve
    from svd_local.engine.loading import FP32, load
    from svd_local.media.encode import encode_video, encoder_settings

    pipeline = load(resolve("tiny-svd", folder / "models"), "cpu", FP32)
    image = Image.open(picture).convert("RGB")

    def bare() -> None:
        frames = pipeline(
            image,
            width=SIZE[0],
            height=SIZE[1],
            num_frames=FRAMES,
            num_inference_steps=steps,
            fps=FPS,
            generator=torch.Generator().manual_seed(SEED),
            output_type="np",
        ).frames[0]
        encode_video(
            [(frames * 255).round().astype(np.uint8)],
            source_size=SIZE,
            output_size=SIZE,
            fps=FPS,
            target=folder / "bare.mp4",
            settings=encoder_settings("standard"),
        )

    return bare


@contextmanager
def pipeline_clock() -> Iterator[list[float]]:
    """Seconds of every call of the pipeline, ours and the bare one, appended as they end."""
    from diffusers import StableVideoDiffusionPipeline

    original = StableVideoDiffusionPipeline.__call__
    seconds: list[float] = []

    @functools.wraps(original)
    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(self, *args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - started)

    StableVideoDiffusionPipeline.__call__ = timed
    try:
        yield seconds
    finally:
        StableVideoDiffusionPipeline.__call__ = original


def draw_picture() -> Image.Image:
    """A picture of the checkpoint's native size: a disc and a box before a gradient."""
    image = Image.linear_gradient("L").resize(SIZE).convert("RGB")
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 20, 110, 100), fill=(230, 200, 60))
    draw.rectangle((150, 50, 230, 120), fill=(160, 60, 40))
    return image


if __name__ == "__main__":
    run(main)
