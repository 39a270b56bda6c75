"""From a single file to a pipeline: one weight after the other, each to where it stays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svd_local.engine.architecture import Architecture, build
from svd_local.engine.original.layout import layout_of
from svd_local.engine.original.weights import THIRDS, Weight

if TYPE_CHECKING:
    import torch
    from diffusers import StableVideoDiffusionPipeline
    from torch import Tensor, nn


def read_pipeline(
    path: Path, architecture: Architecture, dtype: torch.dtype
) -> StableVideoDiffusionPipeline:
    """The pipeline of a file that was found whole, its weights in ``dtype`` in main memory.

    The file is mapped, not loaded. Each weight is copied out of it, already converted: views of the
    mapping would cost no copy, but would share one memory of ten gigabytes, change with the file, and
    end the process where the file is cut short.

    Raises:
        safetensors.SafetensorError, OSError: the file cannot be read.
        KeyError: it lacks a weight.
    """
    import torch
    from safetensors import safe_open

    with torch.device("meta"):
        pipeline = build(architecture)
    with safe_open(path, framework="pt", device="cpu") as file:
        for component, weights in layout_of(architecture, set(file.keys())).items():
            _fill(getattr(pipeline, component), file, weights, dtype)
    return pipeline


def _fill(network: nn.Module, file: Any, weights: Iterable[Weight], dtype: torch.dtype) -> None:
    """Give ``network``, which was built without memory, its weights and its tables."""
    import torch

    for weight in weights:
        owner, _, name = weight.name.rpartition(".")
        read = torch.empty(weight.shape, dtype=dtype)
        if weight.form == "identity":
            _make_identity(read)
        else:
            read.copy_(_here(file.get_tensor(weight.source), weight))
        parameter = torch.nn.Parameter(read, requires_grad=False)
        network.get_submodule(owner)._parameters[name] = parameter
    for part in network.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None:
                if name != "position_ids":
                    raise ValueError(f"no rule for the buffer {name}")
                part._buffers[name] = torch.arange(buffer.shape[-1]).expand(buffer.shape)


def _here(stored: Tensor, weight: Weight) -> Tensor:
    """The weight as the network has it, as a view of what is ``stored``."""
    if weight.form == "turned":
        return stored.t()
    if weight.form in THIRDS:
        return stored.chunk(3)[THIRDS.index(weight.form)]
    return stored.view(weight.shape)


def _make_identity(tensor: Tensor) -> None:
    """A 1x1 convolution that hands every channel on, or its bias."""
    tensor.zero_()
    if tensor.dim() > 1:
        tensor.flatten(1).fill_diagonal_(1)
