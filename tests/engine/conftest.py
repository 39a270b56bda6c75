"""A tiny checkpoint made once per run, and checkpoint folders written by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.samplings import QUICK

if TYPE_CHECKING:
    from diffusers import StableVideoDiffusionPipeline
    from PIL.Image import Image

    from svd_local.engine.values import Sampling


def safetensors(
    tensors: dict[str, list[int]], fill: int = 0, metadata: dict[str, str] | None = None
) -> bytes:
    """A safetensors file of F16 tensors with these shapes, every byte ``fill``."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, shape in tensors.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes([fill]) * at


@pytest.fixture
def make_safetensors() -> Callable[..., bytes]:
    return safetensors


@pytest.fixture
def make_checkpoint() -> Callable[..., Path]:
    """Writes a folder in the diffusers layout with weights of a few bytes."""

    def write(
        folder: Path, *, variant: str | None = "fp16", frames: int = 25, fill: int = 0
    ) -> Path:
        dotted = f".{variant}" if variant else ""
        unet = {"num_frames": frames, "block_out_channels": [320, 640, 1280, 1280]}
        vae = {"block_out_channels": [128, 256, 512, 512]}
        files: dict[str, Any] = {
            "model_index.json": {"_class_name": "StableVideoDiffusionPipeline"},
            "unet/config.json": unet,
            "vae/config.json": vae,
            "image_encoder/config.json": {},
            "scheduler/scheduler_config.json": {},
            "feature_extractor/preprocessor_config.json": {},
            f"unet/diffusion_pytorch_model{dotted}.safetensors": {"conv_in.weight": [4, 8]},
            f"vae/diffusion_pytorch_model{dotted}.safetensors": {"a": [3], "b": [2, 2]},
            f"image_encoder/model{dotted}.safetensors": {"c": [5]},
        }
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".json":
                path.write_text(json.dumps(content))
            else:
                path.write_bytes(safetensors(content, fill))
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_pipeline(tiny_models: Path) -> StableVideoDiffusionPipeline:
    """The bare pipeline in fp32 on the CPU. Tests leave it as they found it."""
    from svd_local.engine.checkpoints import resolve
    from svd_local.engine.loading import FP32, load

    return load(resolve("tiny-svd", tiny_models), "cpu", FP32)


@pytest.fixture
def picture() -> Image:
    """64x64 pixels of a disc on a gradient."""
    from PIL import Image, ImageDraw

    image = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    ImageDraw.Draw(image).ellipse((12, 16, 44, 48), fill=(220, 180, 40))
    return image


@pytest.fixture
def quick() -> Sampling:
    """The smallest clip that still runs everything: three frames, two steps, decoded at once."""
    return QUICK
