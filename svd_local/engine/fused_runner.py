"""A loaded pipeline that the fused engine runs, its networks taking turns where memory is short."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from svd_local.engine.architecture import COMPONENTS
from svd_local.engine.fused import render as fused_render
from svd_local.engine.fused.compiled_cache import keep_compiled
from svd_local.engine.fused.counting import counted
from svd_local.engine.fused.kernels.choice import NONE, Kernels, using
from svd_local.engine.fused.passes import WHOLE, Passes
from svd_local.engine.fused.picture import encoder_type
from svd_local.engine.fused.regions import Compilation
from svd_local.engine.fused.render import Encoder, Fused
from svd_local.engine.fused.skips import HostSkips, ResidentSkips
from svd_local.engine.fused.streaming import Streaming
from svd_local.engine.fused.weights import map_tensors, tensors
from svd_local.engine.fused_plan import FusedWay
from svd_local.engine.guests import Guests, LayerGuests
from svd_local.engine.placement import empty_cache
from svd_local.engine.streams import within
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
        kernels: of our own that run there.

    Raises:
        UnknownPart: some part of the pipeline cannot be folded; it is as it was.
    """

    engine = "fused"

    def __init__(
        self, pipeline: StableVideoDiffusionPipeline, device: str, kernels: Kernels = NONE
    ) -> None:
        for name in COMPONENTS:
            network = getattr(pipeline, name)
            if network.device.type != "cpu":
                network.to("cpu")
        self._folded = Fused.from_pipeline(pipeline)
        _forget(pipeline.unet)
        _forget(pipeline.vae.decoder)
        self.pipeline = pipeline
        self._device = device
        self._kernels = kernels
        self._image_encoder = Guests((pipeline.image_encoder,))
        self._vae_encoder = Guests((pipeline.vae.encoder, pipeline.vae.quant_conv))
        self._layers: LayerGuests | None = None
        self._resident: Fused | None = None
        self._way: FusedWay | None = None
        self._in_fp8: FusedUNet | None = None
        self.compilation = Compilation()

    def prepare(self, way: FusedWay) -> None:
        """Have the weights on the device that ``way`` wants there throughout.

        Raises:
            torch.OutOfMemoryError: they do not fit there.
        """
        if self._way is None or (self._way.weights, self._way.fp8) != (way.weights, way.fp8):
            self.recover()
            if not way.fp8:
                self._in_fp8 = None
            if way.weights != "resident":
                self._pin()
            if way.weights in ("resident", "encoders offloaded"):
                everything = way.weights == "resident"
                self._resident = Fused(
                    self._home_unet(way).to(self._device, conditioning=everything),
                    self._folded.decoder.to(self._device),
                )
            if way.weights == "resident":
                self._image_encoder.visit(self._device)
                self._vae_encoder.visit(self._device)
        self._way = way

    def render(
        self,
        way: FusedWay,
        image: Image,
        sampling: Sampling,
        *,
        report: Report,
        check: Check,
        counts: bool = True,
    ) -> Generator[Pixels, None, tuple[Phases, int | None]]:
        """One clip (see `streams`), and the bytes of live tensors at its peak.

        On the CPU they are followed where ``counts``, operation by operation, which leaves nothing to
        compile: else, and of a compiled clip, they are None.

        Raises:
            Exception: what `fused.render.render` raises.
        """
        work = fused_render.render(
            self.pipeline, _Turns(self, way), image, sampling, report=report, check=check
        )
        work = within(lambda: using(self._kernels), work)
        if self._device.startswith("cuda"):
            import torch

            phases = yield from work
            return phases, int(torch.cuda.max_memory_allocated(self._device))
        if not counts or (way.compiled and self.compilation.failure is None):
            return (yield from work), None
        phases, peak = yield from counted(work, self._device)
        return phases, self._weight_bytes() + peak

    def encode_with(self, way: FusedWay, encoder: Encoder) -> None:
        """One of the picture's encoders on the device. The other leaves it where it must."""
        if way.weights == "resident":
            return
        self._encoders_go_home()
        if encoder == "VAE encoder":
            # It comes in the type it is to run in, instead of being cast when it is there.
            self._vae_encoder.visit(self._device, encoder_type(self.pipeline.vae))
        elif way.weights == "weights streamed":
            self._layers = LayerGuests(self.pipeline.image_encoder)
            self._layers.visit(self._device)
        else:
            self._image_encoder.visit(self._device)

    def unet(self, way: FusedWay) -> FusedUNet:
        """The UNet on the device, to be run as ``way`` says. The encoders leave it where they must."""
        if way.weights != "resident":
            self._encoders_go_home()
        if way.compiled:
            keep_compiled(self._device)
        return dataclasses.replace(
            self._placed_unet(way),
            passes=WHOLE if way.piece_elements is None else Passes(way.piece_elements),
            one_by_one=way.one_by_one,
            skips=HostSkips if way.host_skips else ResidentSkips,
            compilation=self.compilation if way.compiled else None,
        )

    def _placed_unet(self, way: FusedWay) -> FusedUNet:
        if self._resident is not None:
            return self._resident.unet
        if way.weights == "weights streamed":
            return self._home_unet(way).streamed(self._device)
        return self._home_unet(way).to(self._device, conditioning=False)

    def _home_unet(self, way: FusedWay) -> FusedUNet:
        """The UNet at home; in 8 bits it is a second one, which shares what is not."""
        if not way.fp8:
            return self._folded.unet
        if self._in_fp8 is None:
            unet = self._folded.unet.in_fp8()
            if way.weights != "resident":
                unet = _pinned_weights(unet)
            self._in_fp8 = unet
        return self._in_fp8

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
        self._encoders_go_home()

    def close(self) -> None:
        """Let go of what is on the device."""
        self.recover()
        empty_cache()

    def _encoders_go_home(self) -> None:
        if self._layers is not None:
            self._layers.go_home()
            self._layers = None
        self._image_encoder.go_home()
        self._vae_encoder.go_home()

    def _pin(self) -> None:
        """What is copied to a GPU for every clip lies in pinned memory."""
        import torch

        if not torch.cuda.is_available():
            return
        self._image_encoder.pin()
        self._vae_encoder.pin()
        decoder = self._folded.decoder
        self._folded = Fused(
            _pinned_weights(self._folded.unet),
            dataclasses.replace(decoder, weights=map_tensors(decoder.weights, _pinned)),
        )
        self._in_fp8 = None

    def _weight_bytes(self) -> int:
        """Bytes of all weights, each memory once."""
        folded = self._folded
        parts: tuple[Any, ...] = (
            folded.unet.weights,
            folded.unet.conditioning,
            folded.decoder.weights,
            tuple(self._image_encoder.tensors()),
            tuple(self._vae_encoder.tensors()),
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

    def encode_with(self, encoder: Encoder) -> None:
        self._runner.encode_with(self._way, encoder)

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


def _pinned_weights(unet: FusedUNet) -> FusedUNet:
    import torch

    if not torch.cuda.is_available():
        return unet
    return dataclasses.replace(unet, weights=map_tensors(unet.weights, _pinned))


def _pinned(tensor: Tensor) -> torch.Tensor:
    return tensor if tensor.is_pinned() else tensor.pin_memory()
