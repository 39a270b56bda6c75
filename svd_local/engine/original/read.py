"""From a single file to a pipeline: one weight after the other, each to where it stays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svd_local.engine.architecture import Architecture, build
from svd_local.engine.original.layout import layout_of
from svd_local.engine.original.weights import THIRDS, Weight

if TYPE_CHECKING:
    import torch
    from diffusers import StableVideoDiffusionPipeline
    from torch import Tensor, nn


_MAPPED_ELEMENTS = 2**27
"""Weights that are read before the file is let go of and opened again: half a gigabyte in fp32."""


def read_pipeline(
    path: Path, architecture: Architecture, dtype: torch.dtype
) -> StableVideoDiffusionPipeline:
    """The pipeline of a file that was found whole, its weights in ``dtype`` in main memory.

    The file is mapped, a part at a time, and each weight copied out of it, already converted: views of
    the mapping would cost no copy, but would share one memory of ten gigabytes, change with the file, and
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
        layout = layout_of(architecture, set(file.keys()))
    for component, weights in layout.items():
        network = getattr(pipeline, component)
        for part in _parts(weights):
            with safe_open(path, framework="pt", device="cpu") as file:
                for weight in part:
                    _place(network, weight, _read(file, weight, dtype))
        _make_tables(network)
    return pipeline


def _parts(weights: Iterable[Weight]) -> Iterator[list[Weight]]:
    """The weights as they lie in the file, in parts whose pages may be in memory together."""
    part: list[Weight] = []
    held = 0
    for weight in sorted(weights, key=lambda weight: weight.source):
        part.append(weight)
        held += math.prod(weight.shape)
        if held >= _MAPPED_ELEMENTS:
            yield part
            part, held = [], 0
    yield part


def _read(file: Any, weight: Weight, dtype: torch.dtype) -> Tensor:
    """One weight as the network has it, in memory of its own."""
    import torch

    read = torch.empty(weight.shape, dtype=dtype)
    if weight.form == "identity":
        read.zero_()
        if read.dim() > 1:  # a 1x1 convolution that hands every channel on; its bias is zero
            read.flatten(1).fill_diagonal_(1)
        return read
    return read.copy_(_here(file.get_tensor(weight.source), weight))


def _place(network: nn.Module, weight: Weight, read: Tensor) -> None:
    import torch

    owner, _, name = weight.name.rpartition(".")
    parameter = torch.nn.Parameter(read, requires_grad=False)
    network.get_submodule(owner)._parameters[name] = parameter


def _make_tables(network: nn.Module) -> None:
    """What a network that was built without memory has besides weights: the numbers of its places."""
    import torch

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
