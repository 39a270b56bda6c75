"""Where a pipeline's weights lie while it runs: on the device, or in main memory until needed.

Every placement is exact: the same numbers are computed on the same device in the same order.
"""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from svd_local.engine.architecture import COMPONENTS
from svd_local.engine.quiet import no_chatter

if TYPE_CHECKING:
    import torch
    from diffusers import StableVideoDiffusionPipeline

Placement = Literal["resident", "model-offload", "group-offload"]
PLACEMENTS: tuple[Placement, ...] = ("resident", "model-offload", "group-offload")
"""From the fastest to the smallest: all on the device; one network at a time; one layer at a time."""

_GROUP_HOOKS = ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading")


def place(pipeline: StableVideoDiffusionPipeline, placement: Placement, device: str) -> None:
    """Put ``pipeline``, which has no hooks (see ``clear``), in ``placement`` for ``device``.

    ``device`` may be ``cpu``: the hooks are then the same and the memory saved is none.
    """
    with no_chatter():
        if placement == "resident":
            pipeline.to(device)
        elif placement == "model-offload":
            pipeline.enable_model_cpu_offload(device=device)
        else:
            _offload_layers(pipeline, device)


def clear(pipeline: StableVideoDiffusionPipeline, dtype: torch.dtype | None = None) -> None:
    """Take every hook off and bring the weights to main memory, also after an exception mid-way.

    An exception while the picture is encoded leaves the VAE in fp32; ``dtype`` sets it back.
    """
    from diffusers.hooks import HookRegistry

    pipeline.remove_all_hooks()
    for name in COMPONENTS:
        network = getattr(pipeline, name)
        registry = HookRegistry.check_if_exists_or_initialize(network)
        for hook in _GROUP_HOOKS:
            registry.remove_hook(hook, recurse=True)
        network.to("cpu")
    if dtype is not None and pipeline.vae.dtype != dtype:
        with no_chatter():
            pipeline.vae.to(dtype=dtype)
    empty_cache()


def empty_cache() -> None:
    """Give back what the device's allocator keeps of freed memory. Without torch there is none.

    A GPU that answers no more gives nothing back; the error that tells of it is on its way already.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


def _offload_layers(pipeline: StableVideoDiffusionPipeline, device: str) -> None:
    """Each layer's weights come to the device when it runs.

    On a GPU they are fetched one layer ahead on a stream of their own. Not the VAE's: it is cast to
    fp32 and back for every clip, which a stream's pinned copies would not see.
    """
    import torch
    from diffusers.hooks import apply_group_offloading

    for name in COMPONENTS:
        apply_group_offloading(
            getattr(pipeline, name),
            onload_device=torch.device(device),
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            use_stream=device.startswith("cuda") and name != "vae",
        )
