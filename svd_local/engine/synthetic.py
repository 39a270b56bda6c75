"""``synthetic:svd`` and ``synthetic:svd-xt``: the full-size networks with random weights.

For benchmarks on machines without the real files: the same work and memory, no meaning. The weights
are made directly on the device, so a GPU has them in seconds and nothing is read or downloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from svd_local.engine.architecture import COMPONENTS, Architecture, build, full_size
from svd_local.engine.random_weights import fill

if TYPE_CHECKING:
    import torch
    from diffusers import StableVideoDiffusionPipeline

SEED = 20231121
RECIPE = 1
"""Raised whenever the same name would come to other weights: part of the checkpoint's revision."""


def make(frames: int, device: str, dtype: torch.dtype) -> StableVideoDiffusionPipeline:
    """The full-size pipeline for ``frames`` frames with seeded weights, on ``device`` in ``dtype``.

    Needs 4.5 GB of device memory in half precision, 9 GB in fp32.
    """
    return make_of(full_size(frames), device, dtype)


def make_of(
    architecture: Architecture, device: str, dtype: torch.dtype
) -> StableVideoDiffusionPipeline:
    """As ``make``, of any architecture: no copy in another precision or place is ever held."""
    import torch

    with torch.device("meta"):
        pipeline = build(architecture)
    generator = torch.Generator(device).manual_seed(SEED)
    for name in COMPONENTS:
        network = getattr(pipeline, name).to(dtype=dtype).to_empty(device=device)
        fill(network, generator)
    return pipeline
