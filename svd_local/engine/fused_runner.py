"""A loaded pipeline that the fused engine runs, its networks taking turns where memory is short."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from svd_local.engine.architecture import COMPONENTS
from svd_local.engine.fused import render as fused_render
from svd_local.engine.fused.counting import counted
from svd_local.engine.fused.passes import WHOLE, Passes
from svd_local.engine.fused.render import Fused
from svd_local.engine.fused.skips import HostSkips, ResidentSkips
from svd_local.engine.fused.streaming import Streaming
from svd_local.engine.fused.weights import map_tensors, tensors
from svd_local.engine.fused_plan import FusedWay
from svd_local.engine.guests import Guests
from svd_local.engine.placement import empty_cache
from svd_local.engine.values import Check, Phases, Report, Sampling

if TYPE_CHECKING:
    import torch
    from diffusers import StableVideoDiffusionPipeline
    from PIL.Image import Image
    from torch import Tensor, nn

    from svd_local.engine.fused.decoder import FusedDecoder
    from svd_local.engine.fused.unet import FusedUNet
    from svd_local.engine.values import Pixels


class FusedRunner:
    """The fused networks, folded once, and what of the pipeline encodes the picture.

    The weights are at home in host memory; copies of them are on the device, throughout or for their
    phase. Of the pipeline's UNet and decoder only the configurations are left.

    Args:
        pipeline: freshly loaded, without hooks.
        device: where clips are made.

    Raises:
        UnknownPart: some part of the pipeline cannot be folded; it is as it was.
    """

    engine = "fused"

    def __init__(self, pipeline: StableVideoDiffusionPipeline, device: str) -> None:
        for name in COMPONENTS:
            network = getattr(pipeline, name)
            if network.device.type != "cpu":
                network.to("cpu")
        self._folded = Fused.from_pipeline(pipeline)
        _forget(pipeline.unet)
        _forget(pipeline.vae.decoder)
        self.pipeline = pipeline
        self._device = device
        self._encoders = Guests(
            (pipeline.image_encoder, pipeline.vae.encoder, pipeline.vae.quant_conv)
        )
        self._resident: Fused | None = None
        self._way: FusedWay | None = None

    def prepare(self, way: FusedWay) -> None:
        """Have the weights on the device that ``way`` wants there throughout.

        Raises:
            torch.OutOfMemoryError: they do not fit there.
        """
        if self._way is None or self._way.weights != way.weights:
            self.recover()
            if way.weights != "resident":
                self._pin()
            if way.weights != "one network at a time":
                everything = way.weights == "resident"
                self._resident = Fused(
                    self._folded.unet.to(self._device, conditioning=everything),
                    self._folded.decoder.to(self._device),
                )
            if way.weights == "resident":
                self._encoders.visit(self._device)
        self._way = way

    def render(
        self, way: FusedWay, image: Image, sampling: Sampling, *, report: Report, check: Check
    ) -> Generator[Pixels, None, tuple[Phases, int]]:
        """One clip (see `streams`), and the bytes of live tensors at its peak.

        Raises:
            Exception: what `fused.render.render` raises.
        """
        work = self._work(way, image, sampling, report, check)
        if self._device.startswith("cuda"):
            import torch

            phases = yield from work
            return phases, int(torch.cuda.max_memory_allocated(self._device))
        phases, peak = yield from counted(work, self._device)
        return phases, self._weight_bytes() + peak

    def _work(
        self, way: FusedWay, image: Image, sampling: Sampling, report: Report, check: Check
    ) -> Generator[Pixels, None, Phases]:
        self.bring_encoders(way)
        return (
            yield from fused_render.render(
                self.pipeline, _Turns(self, way), image, sampling, report=report, check=check
            )
        )

    def bring_encoders(self, way: FusedWay) -> None:
        """Have on the device what encodes the picture."""
        if way.weights != "resident":
            self._encoders.visit(self._device)

    def unet(self, way: FusedWay) -> FusedUNet:
        """The UNet on the device, to be run as ``way`` says. The encoders leave it where they must."""
        if way.weights != "resident":
            self._encoders.go_home()
        unet = (
            self._folded.unet.to(self._device, conditioning=False)
            if self._resident is None
            else self._resident.unet
        )
        return dataclasses.replace(
            unet,
            passes=WHOLE if way.piece_elements is None else Passes(way.piece_elements),
            one_by_one=way.one_by_one,
            skips=HostSkips if way.host_skips else ResidentSkips,
        )

    def decoder(self, way: FusedWay) -> FusedDecoder:
        """The decoder on the device, to be run as ``way`` says."""
        decoder = (
            self._folded.decoder.to(self._device)
            if self._resident is None
            else self._resident.decoder
        )
        streaming = Streaming(host=way.host_maps) if way.streaming else None
        return dataclasses.replace(decoder, streaming=streaming)

    def recover(self) -> None:
        """Nothing on the device any more, and the weights as they were folded."""
        self._way = None
        self._resident = None
        self._encoders.go_home()

    def close(self) -> None:
        """Let go of what is on the device."""
        self.recover()
        empty_cache()

    def _pin(self) -> None:
        """What is copied to a GPU for every clip lies in pinned memory."""
        import torch

        if not torch.cuda.is_available():
            return
        self._encoders.pin()
        unet, decoder = self._folded.unet, self._folded.decoder
        self._folded = Fused(
            dataclasses.replace(unet, weights=map_tensors(unet.weights, _pinned)),
            dataclasses.replace(decoder, weights=map_tensors(decoder.weights, _pinned)),
        )

    def _weight_bytes(self) -> int:
        """Bytes of all weights, each memory once."""
        folded = self._folded
        parts: tuple[Any, ...] = (
            folded.unet.weights,
            folded.unet.conditioning,
            folded.decoder.weights,
            tuple(self._encoders.tensors()),
        )
        storages = {
            storage.data_ptr(): storage.nbytes()
            for storage in (tensor.untyped_storage() for tensor in tensors(parts))
        }
        return sum(storages.values())


class _Turns:
    """`fused.render.Networks` that come to the device when they are asked for."""

    def __init__(self, runner: FusedRunner, way: FusedWay) -> None:
        self._runner = runner
        self._way = way

    @property
    def unet(self) -> FusedUNet:
        return self._runner.unet(self._way)

    @property
    def decoder(self) -> FusedDecoder:
        return self._runner.decoder(self._way)


def _forget(module: nn.Module) -> None:
    """Let go of the weights; what was folded from them, or shares them, has them."""
    import torch

    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                nothing = torch.empty_like(weight, device="meta")
                part._parameters[name] = torch.nn.Parameter(nothing, requires_grad=False)


def _pinned(tensor: Tensor) -> torch.Tensor:
    return tensor if tensor.is_pinned() else tensor.pin_memory()
