"""The engines that are compared, each as one call that makes a clip."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableVideoDiffusionPipeline
from PIL.Image import Image
from torch import Tensor

from benchmarks.common import synchronise
from benchmarks.setting import Setting
from svd_local.engine import reference
from svd_local.engine.fused import render as fused_render
from svd_local.engine.fused.compiled_cache import keep_compiled
from svd_local.engine.fused.deep_cache import DeepCache
from svd_local.engine.fused.kernels.choice import using
from svd_local.engine.fused.regions import Compilation
from svd_local.engine.fused.render import Fused
from svd_local.engine.fused.unet import ClipConstants, FusedUNet
from svd_local.engine.loading import load
from svd_local.engine.placement import empty_cache, place
from svd_local.engine.quiet import no_chatter
from svd_local.engine.streams import within
from svd_local.engine.values import Phases, Pixels, Report, Sampling

ENGINES = (
    *("reference", "compiled", "fused", "fused-compiled", "fused-compiled-decoder"),
    "fused-one-graph",
)
"""``fused-compiled`` compiles a step's parts as ``--compile`` does, ``fused-compiled-decoder`` those of the
decode too, ``fused-one-graph`` a step as a whole."""
BACKENDS = ("inductor", "aot_eager", "eager")
"""What torch.compile may be given; all but the first only try whether it takes the graph."""

Frames = Generator[Pixels, None, Phases]
"""A clip as the engines stream it; see `svd_local.engine.streams`."""
Render = Callable[[Image, Sampling, Report], Frames]


@dataclass(frozen=True)
class Ready:
    """An engine with its networks on the device, and the seconds that took, imports apart."""

    render: Render
    load_s: float
    compilation: Compilation | None = None


def ready(name: str, setting: Setting, backend: str = "inductor", *, fp8: bool = False) -> Ready:
    """Load, place and, where the engine folds, fold. What was folded is not kept twice.

    Raises:
        ValueError: the reference has no layers in 8 bits.
    """
    if fp8 and "fused" not in name:
        raise ValueError(f"the {name} engine has no layers in 8 bits")
    started = time.perf_counter()
    with no_chatter():
        pipeline = load(setting.checkpoint, setting.device, setting.precision)
        place(pipeline, "resident", setting.device)
    compilation = Compilation(backend) if name.startswith("fused-compiled") else None
    if "compiled" in name or name == "fused-one-graph":
        keep_compiled(setting.device)
    render = (
        _fused(pipeline, name, backend, setting, compilation, fp8=fp8)
        if "fused" in name
        else _plain(pipeline, name, backend)
    )
    synchronise(setting.device)
    return Ready(render, time.perf_counter() - started, compilation)


def _plain(pipeline: StableVideoDiffusionPipeline, name: str, backend: str) -> Render:
    if name == "compiled":
        pipeline.unet.compile(backend=backend, fullgraph=True, dynamic=False)

    def render(image: Image, sampling: Sampling, report: Report) -> Frames:
        return reference.render(pipeline, image, sampling, report=report)

    return render


def _fused(
    pipeline: StableVideoDiffusionPipeline,
    name: str,
    backend: str,
    setting: Setting,
    compilation: Compilation | None,
    *,
    fp8: bool,
) -> Render:
    fused = Fused.from_pipeline(pipeline)
    release_folded(pipeline)
    unet, decoder = fused.unet.in_fp8() if fp8 else fused.unet, fused.decoder
    unet = dataclasses.replace(unet, compilation=compilation)
    if name == "fused-compiled-decoder":
        decoder = dataclasses.replace(decoder, compilation=compilation)
    if name == "fused-one-graph":
        unet = CompiledUNet.of(unet, backend)
    fused = Fused(unet, decoder)

    def render(image: Image, sampling: Sampling, report: Report) -> Frames:
        work = fused_render.render(pipeline, fused, image, sampling, report=report)
        return within(lambda: using(setting.kernels), work)

    return render


def release_folded(pipeline: StableVideoDiffusionPipeline) -> None:
    """Let go of the networks that were folded: what the folded ones share with them stays alive."""
    pipeline.unet.to("meta")
    pipeline.vae.decoder.to("meta")
    empty_cache()


@dataclass(frozen=True)
class CompiledUNet(FusedUNet):
    """The fused UNet with its step compiled for one shape, once for all steps."""

    compiled: Callable[[Tensor, ClipConstants], Tensor] = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls, unet: FusedUNet, backend: str) -> CompiledUNet:
        """``unet``, compiled at its first step."""

        def step(latents: Tensor, clip: ClipConstants) -> Tensor:
            return unet.step(latents, clip, 0)

        fields: dict[str, Any] = {f.name: getattr(unet, f.name) for f in dataclasses.fields(unet)}
        compiled = torch.compile(step, backend=backend, fullgraph=True, dynamic=False)
        return cls(**fields, compiled=compiled)

    def step(
        self, latents: Tensor, clip: ClipConstants, step: int, deep: DeepCache | None = None
    ) -> Tensor:
        """As `FusedUNet.step`; the compiled graph sees one row of the tables, never the number.

        Raises:
            ValueError: features are to be cached, which would take a second graph.
        """
        if deep is not None:
            raise ValueError("the compiled step caches nothing")
        row = slice(step, step + 1)
        tables = tuple((spatial[row], temporal[row]) for spatial, temporal in clip.biases)
        return self.compiled(latents, dataclasses.replace(clip, biases=tables))
