"""The reference engine: the bare ``StableVideoDiffusionPipeline``, watched but not changed.

What it returns equals the pipeline's own output bit for bit. Around the call it adds progress,
cancellation between steps and decoded chunks, seconds per phase, and a look at the result before it
becomes bytes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from svd_local.engine.consistency import bind
from svd_local.engine.quiet import no_chatter
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

    from svd_local.engine.values import Pixels

_BLACK = 4
"""Grey level up to which a frame counts as black."""
_NOT_BLACK = 16
"""A picture with a level above this should not become a black clip."""


def render(
    pipeline: StableVideoDiffusionPipeline,
    image: Image,
    sampling: Sampling,
    *,
    report: Report = ignore_report,
    check: Check = ignore_check,
) -> Generator[Pixels, None, Phases]:
    """One clip from ``image`` (RGB, of the sampling's size) by ``pipeline``, placed as it is.

    The noise comes from a fresh generator on the CPU, so it is the same on every device and under
    every offload. The pipeline gives its frames all at once, so they are one chunk of the stream
    (see `streams`), handed out when nothing can fail any more.

    Raises:
        UnusableFrames: NaN, or black frames from a picture that is not.
        ValueError: features are to be cached, or the schedule is not the pipeline's.
        Exception: whatever ``report`` and ``check`` raise, torch's ``OutOfMemoryError`` included;
            the pipeline then needs ``placement.clear`` before its next clip.
    """
    import torch

    if sampling.caching is not None:
        raise ValueError("the reference engine caches no features")
    generator = torch.Generator("cpu").manual_seed(sampling.seed)
    bind(pipeline.scheduler, sampling, generator)
    with _watched(pipeline, sampling, report, check) as watch, no_chatter():
        frames = pipeline(
            image,
            width=sampling.width,
            height=sampling.height,
            num_frames=sampling.frames,
            num_inference_steps=sampling.steps,
            sigmas=sigmas_of(sampling),
            min_guidance_scale=sampling.guidance[0],
            max_guidance_scale=sampling.guidance[1],
            fps=sampling.fps,
            motion_bucket_id=sampling.motion,
            noise_aug_strength=sampling.noise,
            decode_chunk_size=sampling.decode_chunk,
            generator=generator,
            output_type="pt",
            callback_on_step_end=watch.step,
        ).frames[0]
    pixels = _as_bytes(frames)
    del frames
    refuse_black(int(pixels.max()), image)
    ended = time.perf_counter()
    yield pixels
    return Phases(
        encode_image_s=watch.encoded - watch.started,
        denoise_s=watch.denoised - watch.encoded,
        decode_s=ended - watch.denoised,
    )


def _as_bytes(frames: torch.Tensor) -> Pixels:
    """The pipeline's float frames (frames, 3, height, width) as bytes, as its own ``pil`` rounds."""
    import torch

    if not bool(torch.isfinite(frames).all()):
        raise UnusableFrames("the decoder gave NaN")
    levels = (frames * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    pixels: Pixels = levels.contiguous().cpu().numpy()
    return pixels


def refuse_black(brightest: int, image: Image) -> None:
    """Judge a clip by the brightest level in any of its frames.

    Raises:
        UnusableFrames: all of them are black, and the picture is not.
    """
    import numpy as np

    if brightest <= _BLACK and np.asarray(image).max() > _NOT_BLACK:
        raise UnusableFrames("every frame is black")


def sigmas_of(sampling: Sampling) -> list[float] | None:
    """The ten-step schedule made for SVD ("Align Your Steps", arXiv 2404.14507), as diffusers has it.

    Raises:
        ValueError: another step count was asked for with it.
    """
    if sampling.schedule != "align-your-steps":
        return None
    from diffusers.schedulers import AysSchedules

    sigmas: list[float] = AysSchedules["StableDiffusionVideoSigmas"]
    if sampling.steps != len(sigmas) - 1:
        raise ValueError(f"align-your-steps has {len(sigmas) - 1} steps, not {sampling.steps}")
    return sigmas


class _Watch:
    """What the pipeline's inner calls tell us on their way."""

    def __init__(
        self,
        pipeline: StableVideoDiffusionPipeline,
        sampling: Sampling,
        report: Report,
        check: Check,
    ) -> None:
        self._pipeline = pipeline
        self._sampling = sampling
        self._report = report
        self._check = check
        self._decoded = 0
        self.started = self.encoded = self.denoised = _now(pipeline)

    def prepare_latents(self, *args: Any, **kwargs: Any) -> Any:
        """Called once, between the picture's encoding and the first step."""
        self._check()
        latents = type(self._pipeline).prepare_latents(self._pipeline, *args, **kwargs)
        self.encoded = _now(self._pipeline)
        self._report("denoise", 0, self._sampling.steps)
        return latents

    def step(self, _pipeline: Any, index: int, _timestep: Any, _tensors: Any) -> dict[str, Any]:
        """Called after every step."""
        self._check()
        self._report("denoise", index + 1, self._sampling.steps)
        return {}

    def decode_latents(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Called once, after the last step; there is no point in decoding NaN."""
        import torch

        self.denoised = _now(self._pipeline)
        if not bool(torch.isfinite(latents).all()):
            raise UnusableFrames("the denoiser gave NaN")
        self._report("decode", 0, self._sampling.frames)
        return type(self._pipeline).decode_latents(self._pipeline, latents, *args, **kwargs)

    def decode(self, latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Called once a chunk."""
        self._check()
        vae = self._pipeline.vae
        chunk = type(vae).decode(vae, latents, *args, **kwargs)
        self._decoded += len(latents)
        self._report("decode", self._decoded, self._sampling.frames)
        return chunk


@contextlib.contextmanager
def _watched(
    pipeline: StableVideoDiffusionPipeline, sampling: Sampling, report: Report, check: Check
) -> Iterator[_Watch]:
    """The pipeline with its inner calls shadowed on the instance, and as it was afterwards."""
    check()
    report("encode-image", 0, 0)
    watch = _Watch(pipeline, sampling, report, check)
    pipeline.prepare_latents = watch.prepare_latents
    pipeline.decode_latents = watch.decode_latents
    pipeline.vae.decode = watch.decode
    try:
        yield watch
    finally:
        del pipeline.prepare_latents, pipeline.decode_latents, pipeline.vae.decode


def _now(pipeline: StableVideoDiffusionPipeline) -> float:
    """Seconds, after everything queued on the GPU is done."""
    import torch

    if torch.cuda.is_available() and pipeline._execution_device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
