"""The denoising loop of `StableVideoDiffusionPipeline`, around the fused UNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svd_local.engine.fused.deep_cache import DeepCache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from svd_local.engine.fused.unet import FusedUNet
    from svd_local.engine.values import Caching

    OnStep = Callable[[int, int], None]


def guidance_ramp(minimum: float, maximum: float, num_frames: int) -> Tensor | None:
    """Guidance scale of each frame, (f,), rising evenly; None where ``maximum`` asks for no guidance.

    The pipeline guides only above 1, because at 1 the guided prediction is the conditional one.
    """
    import torch

    return torch.linspace(minimum, maximum, num_frames) if maximum > 1 else None


def denoise(
    unet: FusedUNet,
    scheduler: Any,
    *,
    latents: Tensor,
    image_latents: Tensor,
    image_embeddings: Tensor,
    added_time_ids: Tensor,
    guidance: Tensor | None,
    num_inference_steps: int | None = None,
    sigmas: Sequence[float] | None = None,
    caching: Caching | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """From noise to latents, equal to the pipeline's own loop to rounding.

    Args:
        unet: the fused UNet.
        scheduler: as the pipeline has it; its state is reset.
        latents: (videos, f, channels, h, w), standard normal, unscaled; of the type the model runs in.
        image_latents: (videos, channels, h, w), of the conditioning image.
        image_embeddings: (videos, 1, channels).
        added_time_ids: (1 or videos, ids): fps - 1, motion bucket, noise strength.
        guidance: (f,) scales from `guidance_ramp`, or None. With guidance, an unconditional half is put
            in front: zero image latents and zero embeddings.
        num_inference_steps: length of the schedule, where ``sigmas`` does not give it.
        sigmas: the schedule's noise levels, for those schedulers that take them.
        caching: reuse deep features, which is approximate; None for what the pipeline does.
        on_step: called after each step with the steps done and their total; what it raises ends
            the loop.

    Returns:
        (videos, f, channels, h, w), of the type that came in.

    Raises:
        UnknownPart: the image embedding has more than one token.
    """
    import torch

    device = unet.device
    if sigmas is None:
        scheduler.set_timesteps(num_inference_steps, device=device)
    else:
        scheduler.set_timesteps(sigmas=list(sigmas), device=device)
    timesteps = scheduler.timesteps
    if guidance is not None:
        image_latents = torch.cat([torch.zeros_like(image_latents), image_latents])
        image_embeddings = torch.cat([torch.zeros_like(image_embeddings), image_embeddings])
        if added_time_ids.shape[0] > 1:
            added_time_ids = torch.cat([added_time_ids, added_time_ids])
    clip = unet.prepare(
        image_latents=image_latents,
        image_embeddings=image_embeddings,
        added_time_ids=added_time_ids,
        timesteps=timesteps,
        num_frames=latents.shape[1],
        guidance=guidance,
    )
    latents = latents.to(device) * scheduler.init_noise_sigma
    deep = None if caching is None else DeepCache(caching)
    for step, timestep in enumerate(timesteps):
        scaled = scheduler.scale_model_input(latents, timestep)
        prediction = unet.step(scaled, clip, step, deep)
        latents = scheduler.step(prediction, timestep, latents).prev_sample
        if on_step is not None:
            on_step(step + 1, len(timesteps))
    return latents
