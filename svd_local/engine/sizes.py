"""What of a checkpoint decides the memory it needs, found without loading it."""

from __future__ import annotations

import json
from pathlib import Path

from svd_local.engine.architecture import COMPONENTS, Architecture
from svd_local.engine.checkpoints import Checkpoint
from svd_local.engine.memory import Sizes
from svd_local.engine.safetensors_header import read_header
from svd_local.engine.verify import best_variant, require_whole, weight_files


def sizes_of(checkpoint: Checkpoint) -> Sizes:
    """Parameter counts and widths, from headers and configuration files.

    Raises:
        CheckpointBroken: the files are not whole.
    """
    if checkpoint.source != "made-here":
        require_whole(checkpoint)
    architecture = checkpoint.architecture()
    if architecture is not None:
        return _of_architecture(architecture)
    assert checkpoint.path is not None
    return _of_files(checkpoint.path)


def _of_architecture(architecture: Architecture) -> Sizes:
    return Sizes(
        unet_parameters=architecture.parameters["unet"],
        vae_parameters=architecture.parameters["vae"],
        image_encoder_parameters=architecture.parameters["image_encoder"],
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
    unet, vae = (_widths(folder / part / "config.json") for part in ("unet", "vae"))
    return Sizes(
        unet_parameters=counts["unet"],
        vae_parameters=counts["vae"],
        image_encoder_parameters=counts["image_encoder"],
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


def _widths(config: Path) -> list[int]:
    """Channels per level, of a configuration that ``require_whole`` has found readable."""
    widths: list[int] = json.loads(config.read_text(encoding="utf-8"))["block_out_channels"]
    return widths
