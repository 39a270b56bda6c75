"""What is measured: a checkpoint on a device, and a clip's size."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmarks import learned
from benchmarks.common import ROOT, Result, gpu_name, machine, versions
from benchmarks.on_disk import on_disk
from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.checkpoints import resolve
from svd_local.engine.fused.attention import is_known
from svd_local.engine.fused.kernels.choice import NONE, Kernels, Wish, choose
from svd_local.engine.fused.kernels.proof import proven
from svd_local.engine.loading import BF16, FP16, FP32, Precision, precision_for
from svd_local.engine.values import Sampling, Schedule

SEED = 1
_PRECISIONS = {precision.name: precision for precision in (FP16, BF16, FP32)}


@dataclass(frozen=True)
class Setting:
    """One checkpoint on one device in one precision, and the clip that is made with it."""

    checkpoint: Checkpoint
    device: str
    precision: Precision
    width: int
    height: int
    frames: int
    kernels: Kernels = NONE
    """Of our own, that the fused engine runs."""
    wish: Wish = "auto"
    """Which of them were asked for; what plans for itself chooses by it."""

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Setting:
        """From the options of `common.arguments_for`; sets torch up for a fixed size.

        Raises:
            SvdLocalError: there is no such checkpoint.
            SystemExit: CUDA was asked for and is not there.
        """
        if arguments.device == "cuda" and not torch.cuda.is_available():
            raise SystemExit("--device cuda: torch sees no CUDA device on this machine")
        learned.learn(arguments)
        torch.backends.cudnn.benchmark = True
        models = models_folder()
        checkpoint = resolve(arguments.checkpoint, models)
        usual = precision_for(arguments.device)
        precision = _PRECISIONS[arguments.dtype] if arguments.dtype else usual
        if arguments.from_disk:
            checkpoint = on_disk(checkpoint, arguments.device, precision, models)
        return cls(
            checkpoint,
            arguments.device,
            precision,
            arguments.width or checkpoint.width,
            arguments.height or checkpoint.height,
            arguments.frames or checkpoint.frames,
            kernels_for(arguments.kernels, arguments.device, precision),
            arguments.kernels,
        )

    def sampling(self, steps: int, schedule: Schedule = "karras") -> Sampling:
        """A clip's parameters as `svd-local generate` has them by default."""
        return Sampling(
            seed=SEED,
            frames=self.frames,
            fps=7,
            steps=steps,
            schedule=schedule,
            motion=127,
            noise=0.02,
            guidance=(1.0, 3.0),
            width=self.width,
            height=self.height,
            decode_chunk=self.frames,
        )

    def random(self, *shape: int) -> torch.Tensor:
        """Standard normal numbers of the setting's type, drawn where they lie."""
        return torch.randn(shape, dtype=self.precision.of_torch(), device=self.device)

    def describe(self, benchmark: str) -> Result:
        """The keys that every result begins with."""
        return {
            "benchmark": benchmark,
            "device": self.device,
            "gpu": gpu_name(self.device),
            "machine": machine(self.device),
            "versions": versions(),
            "checkpoint": self.checkpoint.name,
            "synthetic": self.checkpoint.synthetic,
            "from_disk": self.checkpoint.path is not None,
            "dtype": self.precision.name,
            "frames": self.frames,
            "width": self.width,
            "height": self.height,
            "kernels": self.kernels.to_json(),
            "attention": "measured" if is_known(str(gpu_name(self.device))) else "torch's choice",
        }


def kernels_for(wish: Wish, device: str, precision: Precision) -> Kernels:
    """Those of our own that are wished for and work here, as a session chooses them."""
    chosen = choose(wish, gpu_name(device), precision.itemsize)
    kernels, notes = proven(chosen, device, precision.of_torch())
    for note in notes:
        print(note, file=sys.stderr, flush=True)
    return kernels


def models_folder() -> Path:
    """Where checkpoints lie."""
    return Path(os.environ.get("SVD_LOCAL_MODELS_DIR", ROOT / "models"))


def picture(width: int, height: int) -> Image.Image:
    """A disc and a box before a gradient with some grain: nothing a codec or a norm can skip."""
    ramp = np.linspace(40, 215, width)[None, :, None] + np.array([0, -20, 25])
    grain = np.random.default_rng(SEED).normal(0, 6, (height, width, 1))
    levels = np.clip(ramp + grain, 0, 255).astype(np.uint8)
    image = Image.fromarray(levels)
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.12, height * 0.15, width * 0.42, height * 0.7), fill=(230, 200, 60))
    draw.rectangle((width * 0.6, height * 0.35, width * 0.9, height * 0.85), fill=(160, 60, 40))
    return image
