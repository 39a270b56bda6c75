"""One clip by the fused engine, from the picture to bytes.

The picture is encoded by the pipeline's own networks with the pipeline's own noise; the loop and the
decoder are ours. Frames are handed out while the decoder works on the next one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from svd_local.engine.consistency import bind
from svd_local.engine.fused.decoder import FusedDecoder
from svd_local.engine.fused.denoise import denoise, guidance_ramp
from svd_local.engine.fused.handover import handed_over, slots_for
from svd_local.engine.fused.picture import encode_picture, know_encoder
from svd_local.engine.fused.unet import FusedUNet
from svd_local.engine.quiet import no_chatter
from svd_local.engine.reference import refuse_black, sigmas_of
from svd_local.engine.streams import within
from svd_local.engine.values import (
    Check,
    Phases,
    Report,
    Sampling,
    UnusableFrames,
    ignore_check,
    ignore_report,
)

if TYPE_CHECKING:
    import torch
    from diffusers import StableVideoDiffusionPipeline
    from PIL.Image import Image
    from torch import Tensor

    from svd_local.engine.values import Pixels

Encoder = Literal["image encoder", "VAE encoder"]


class Networks(Protocol):
    """The networks. Each is asked for when its phase begins and let go at its end, so that they may take
    turns on a device: the picture's encoders, the UNet, the decoder.
    """

    def encode_with(self, encoder: Encoder) -> None:
        """Have one of the pipeline's own encoders on its device; the other may leave it."""

    @property
    def unet(self) -> FusedUNet:
        """On the device it is to run on."""

    @property
    def decoder(self) -> FusedDecoder:
        """Likewise."""


@dataclass(frozen=True)
class Fused:
    """The two networks that a clip's time goes into, folded."""

    unet: FusedUNet
    decoder: FusedDecoder

    @classmethod
    def from_pipeline(
        cls, pipeline: StableVideoDiffusionPipeline, dtype: torch.dtype | None = None
    ) -> Fused:
        """Fold a loaded pipeline that has no hooks. Weights that need no folding share its memory.

        Raises:
            UnknownPart: some part of it is of a kind whose arithmetic is not known here; the
                reference engine can still run it.
        """
        know_encoder(pipeline.vae)
        return cls(
            FusedUNet.from_reference(pipeline.unet, dtype),
            FusedDecoder.from_reference(pipeline.vae, dtype),
        )

    def encode_with(self, encoder: Encoder) -> None:
        """Nothing moves."""


def render(
    pipeline: StableVideoDiffusionPipeline,
    fused: Networks,
    image: Image,
    sampling: Sampling,
    *,
    report: Report = ignore_report,
    check: Check = ignore_check,
) -> Generator[Pixels, None, Phases]:
    """One clip from ``image`` (RGB, of the sampling's size); what the reference makes, to rounding, unless
    features are cached.

    ``sampling.decode_chunk`` is the reference's: here all frames are decoded together, and handed
    out one by one (see `streams`).

    Raises:
        UnknownPart: the image encoder gave more than one token.
        UnusableFrames: NaN, or black frames from a picture that is not. Of a NaN in the decoder it is
            raised in the frame's place, of blackness after the last frame.
        ValueError: the schedule is not the pipeline's, or the cache goes deeper than the network.
        Exception: whatever ``report`` and ``check`` raise.
    """
    return within(_running, _render(pipeline, fused, image, sampling, report, check))


@contextlib.contextmanager
def _running() -> Iterator[None]:
    import torch

    with torch.inference_mode(), no_chatter():
        yield


def _render(
    pipeline: StableVideoDiffusionPipeline,
    fused: Networks,
    image: Image,
    sampling: Sampling,
    report: Report,
    check: Check,
) -> Generator[Pixels, None, Phases]:
    import torch

    check()
    report("encode-image", 0, 0)
    started = time.perf_counter()

    def on_step(done: int, total: int) -> None:
        check()
        report("denoise", done, total)

    fused.encode_with("image encoder")
    device = pipeline._execution_device
    start = _start(pipeline, fused, device, image, sampling)
    encoded = _now(device)
    check()
    report("denoise", 0, sampling.steps)
    latents = denoise(
        fused.unet,
        pipeline.scheduler,
        guidance=guidance_ramp(*sampling.guidance, sampling.frames),
        num_inference_steps=sampling.steps,
        sigmas=sigmas_of(sampling),
        caching=sampling.caching,
        on_step=on_step,
        **start,
    )
    if not bool(torch.isfinite(latents).all()):
        raise UnusableFrames("the denoiser gave NaN")
    denoised = _now(device)
    brightest, away_s = 0, 0.0
    for pixels in _decoded(fused.decoder, latents[0], sampling, report, check):
        brightest = max(brightest, int(pixels.max()))
        left = time.perf_counter()
        yield pixels
        away_s += time.perf_counter() - left
    refuse_black(brightest, image)
    return Phases(
        encode_image_s=encoded - started,
        denoise_s=denoised - encoded,
        decode_s=time.perf_counter() - denoised - away_s,
    )


def _start(
    pipeline: StableVideoDiffusionPipeline,
    fused: Networks,
    device: torch.device,
    image: Image,
    sampling: Sampling,
) -> dict[str, Tensor]:
    """What `denoise` begins with, the noise drawn in the pipeline's order."""
    import torch
    from diffusers.utils.torch_utils import randn_tensor

    generator = torch.Generator("cpu").manual_seed(sampling.seed)
    bind(pipeline.scheduler, sampling, generator)
    embeddings = pipeline._encode_image(image, device, 1, False)
    dtype = embeddings.dtype
    picture = pipeline.video_processor.preprocess(
        image, height=sampling.height, width=sampling.width
    ).to(device)
    noise = randn_tensor(picture.shape, generator=generator, device=device, dtype=picture.dtype)
    picture = picture + sampling.noise * noise
    del noise
    fused.encode_with("VAE encoder")
    image_latents = encode_picture(pipeline.vae, picture).to(dtype)
    scale = pipeline.vae_scale_factor
    shape = (
        1,
        sampling.frames,
        pipeline.unet.config.in_channels // 2,
        sampling.height // scale,
        sampling.width // scale,
    )
    return {
        "latents": randn_tensor(shape, generator=generator, device=device, dtype=dtype),
        "image_latents": image_latents,
        "image_embeddings": embeddings,
        # The model was told fps - 1 in training.
        "added_time_ids": torch.tensor(
            [[sampling.fps - 1, sampling.motion, sampling.noise]], dtype=dtype, device=device
        ),
    }


def _decoded(
    decoder: FusedDecoder, latents: Tensor, sampling: Sampling, report: Report, check: Check
) -> Iterator[Pixels]:
    """The frames, each (1, h, w, 3), in main memory; told of as they come there."""
    check()
    report("decode", 0, sampling.frames)
    pictures = decoder.pictures(latents)
    for done, pixels in enumerate(handed_over(pictures, slots_for(latents.device)), start=1):
        check()
        report("decode", done, sampling.frames)
        yield pixels


def _now(device: torch.device) -> float:
    """Seconds, after everything queued on the GPU is done."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
