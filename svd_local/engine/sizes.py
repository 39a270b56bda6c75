"""What of a checkpoint decides the memory it needs, found without loading it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from svd_local.engine.architecture import COMPONENTS, Architecture
from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.memory import Sizes
from svd_local.engine.safetensors_header import read_header
from svd_local.engine.verify import best_variant, require_whole, weight_files


def sizes_of(checkpoint: Checkpoint) -> Sizes:
    """Parameter counts and widths, from headers and configuration files.

    Raises:
        CheckpointBroken: the files are not whole.
    """
    checkpoint = checkpoint.base or checkpoint  # a distilled UNet is of its shapes
    if checkpoint.source != "made-here":
        require_whole(checkpoint)
    architecture = checkpoint.architecture()
    if architecture is not None:
        return of_architecture(architecture)
    assert checkpoint.path is not None
    return _of_files(checkpoint.path)


def of_architecture(architecture: Architecture) -> Sizes:
    return Sizes(
        unet_parameters=architecture.parameters["unet"],
        vae_parameters=architecture.parameters["vae"],
        image_encoder_parameters=architecture.parameters["image_encoder"],
        image_encoder_layer=_clip_layer(architecture.image_encoder),
        largest_tensor=architecture.largest_tensor,
        unet_width=architecture.unet["block_out_channels"][0],
        encoder_width=architecture.vae["block_out_channels"][0],
        decoder_width=architecture.vae["block_out_channels"][1],
    )


def _of_files(folder: Path) -> Sizes:
    variant = best_variant(folder, half=True)
    headers = {
        component: [read_header(path) for path in weight_files(folder, component, variant)]
        for component in COMPONENTS
    }
    counts = {
        component: sum(header.elements for header in files) for component, files in headers.items()
    }
    unet, vae = (_config(folder / part)["block_out_channels"] for part in ("unet", "vae"))
    return Sizes(
        unet_parameters=counts["unet"],
        vae_parameters=counts["vae"],
        image_encoder_parameters=counts["image_encoder"],
        image_encoder_layer=_clip_layer(_config(folder / "image_encoder")),
        largest_tensor=max(
            tensor.elements
            for files in headers.values()
            for header in files
            for tensor in header.tensors
        ),
        unet_width=unet[0],
        encoder_width=vae[0],
        decoder_width=vae[min(1, len(vae) - 1)],
    )


def _clip_layer(config: Mapping[str, Any]) -> int:
    """Attention, feed-forward and two norms; what the configuration leaves out is as transformers has it."""
    width, inner = config.get("hidden_size", 768), config.get("intermediate_size", 3072)
    attention, feed_forward = 4 * (width + 1) * width, 2 * width * inner + width + inner
    return int(attention + feed_forward + 4 * width)


def _config(folder: Path) -> dict[str, Any]:
    """A configuration that ``require_whole`` has found readable."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config
