"""What a safetensors file is, from its header: Stable Video Diffusion in one file, or something else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from svd_local.engine.architecture import Architecture, full_size, tiny
from svd_local.engine.original.image_encoder import PREFIX as IMAGE_ENCODER
from svd_local.engine.original.unet import PREFIX as UNET
from svd_local.engine.original.vae import DECODER
from svd_local.engine.safetensors_header import BrokenHeader, Header, read_header

SUFFIX = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""Suffixes of files that can run code when they are loaded."""

_OVER_TIME = ".time_stack."
_FIRST = f"{UNET}.input_blocks.0.0.weight"
_NUMBERS = f"{UNET}.label_emb.0.0.weight"
_PARTS = {f"{DECODER}.conv_in.weight": "no VAE decoder", f"{IMAGE_ENCODER}.": "no image encoder"}
"""What a UNet needs beside it in the file, by how its names begin."""
_USUAL_FRAMES = 25
_FRAMES_SAID = re.compile(r"(?<![a-z0-9])(\d{1,3})[ ._-]?f(?:rames?)?(?![a-z0-9])")
_PLAIN_WORDS = {"svd", "stable", "video", "diffusion", "img2vid", "fp16", "fp32", "bf16"}


class NoSvd(ValueError):
    """The file is no Stable Video Diffusion, or one of a kind that is not taken; says what it is."""


@dataclass(frozen=True, slots=True)
class Kind:
    """An architecture that comes as a single file."""

    build: Callable[[int], Architecture]
    frames: int | None
    """Its frame count, where there is only one."""
    synthetic: bool


_KINDS: Mapping[int, Kind] = {
    320: Kind(full_size, None, synthetic=False),
    # The project's own, whose weights are random.
    32: Kind(lambda _: tiny(), 14, synthetic=True),
}
"""By the width of the first layer. What decides more than widths (heads) is in no file, so that only
known architectures can be read from one.
"""


def kind_of(header: Header) -> Kind:
    """The architecture of a file.

    Raises:
        NoSvd: it is something else.
    """
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    if any("lora_" in name or ".lora." in name for name in shapes):
        raise NoSvd("is a LoRA, which changes a checkpoint and is none")
    if not any(name.startswith(f"{UNET}.") and _OVER_TIME in name for name in shapes):
        raise NoSvd(_stranger(shapes))
    first, numbers = shapes.get(_FIRST, ()), shapes.get(_NUMBERS, ())
    if not first:
        raise NoSvd(f"lacks its first layer, {_FIRST}")
    kind = _KINDS.get(first[0])
    if kind is None:
        raise NoSvd(f"is a video model of an unknown size: its first layer is {list(first)}")
    wanted = kind.build(_USUAL_FRAMES).unet["projection_class_embeddings_input_dim"]
    if len(numbers) == 2 and numbers[1] != wanted:
        raise NoSvd(
            f"is a relative of Stable Video Diffusion, such as SV3D: besides the picture it takes "
            f"{numbers[1]} numbers instead of {wanted}"
        )
    lacking = [what for prefix, what in _PARTS.items() if not _has(shapes, prefix)]
    if lacking:
        raise NoSvd(f"holds the UNet, but {' and '.join(lacking)}; it needs all in one file")
    if not any(name.startswith(f"{DECODER}.") and _OVER_TIME in name for name in shapes):
        raise NoSvd(
            "has the decoder for single pictures; take the file without image_decoder in its name"
        )
    return kind


def _has(names: Mapping[str, object], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _stranger(names: Mapping[str, object]) -> str:
    """What a file is that has no UNet over time in its place."""
    if _has(names, f"{UNET}.input_blocks."):
        return "is an image model such as Stable Diffusion: its UNet has no layers over time"
    if _has(names, "input_blocks."):
        return "is a UNet alone, without the VAE and the image encoder"
    if any(_has(names, prefix) for prefix in ("down_blocks.", "vision_model.", "decoder.")):
        return "is one network alone; give the folder around it, which holds model_index.json"
    return "is no Stable Video Diffusion: none of its weights are there"


def looks_like_one(path: Path) -> bool:
    """Whether ``path`` is a single-file SVD, whole or damaged, rather than anything else."""
    try:
        header = read_header(path)
    except BrokenHeader:
        return path.stem.lower().startswith("svd")
    except OSError:
        return False
    try:
        kind_of(header)
    except NoSvd:
        return False
    return True


def architecture_of(path: Path, frames: int) -> Architecture:
    """The networks of a file that was found whole, for ``frames`` frames.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read.
    """
    return kind_of(read_header(path)).build(frames)


def frames_of(name: str) -> int | None:
    """The frame count that a file's name tells; None where it tells none.

    The weights do not: the networks of svd (14 frames) and svd-xt (25) have the same shapes, and what
    they know of a frame's place is computed, not learned.
    """
    words = set(re.split(r"[^a-z0-9]+", name.lower())) - {""}
    said = _FRAMES_SAID.search(name.lower())
    if said is not None and 2 <= int(said[1]) <= 200:
        return int(said[1])
    if words & {"xt", "svdxt"}:
        return 25
    if ("svd" in words or {"stable", "video", "diffusion"} <= words) and words <= _PLAIN_WORDS:
        return 14
    return None


def title_of(header: Header) -> str:
    """The title that a file gives itself in its metadata (ModelSpec); empty where it gives none."""
    metadata = json.loads(header.raw).get("__metadata__")
    title = metadata.get("modelspec.title") if isinstance(metadata, dict) else None
    return title if isinstance(title, str) else ""
