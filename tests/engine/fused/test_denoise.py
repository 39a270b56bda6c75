"""The loop around the fused UNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from svd_local.engine.fused.denoise import denoise, guidance_ramp
from svd_local.engine.fused.unet import FusedUNet

FRAMES = 3


@pytest.fixture
def arguments(tiny_pipeline: Any) -> dict[str, Any]:
    """Two videos' noise and conditioning for the tiny UNet."""
    generator = torch.Generator().manual_seed(11)
    return {
        "latents": torch.randn(2, FRAMES, 4, 6, 5, generator=generator),
        "image_latents": torch.randn(2, 4, 6, 5, generator=generator),
        "image_embeddings": torch.randn(2, 1, 64, generator=generator),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.02], [9.0, 40.0, 0.1]]),
        "num_inference_steps": 4,
    }


@pytest.fixture(scope="module")
def unet(tiny_pipeline: Any) -> FusedUNet:
    return FusedUNet.from_reference(tiny_pipeline.unet)


def reference_loop(pipeline: Any, guidance: Any, arguments: dict[str, Any]) -> torch.Tensor:
    """The pipeline's loop over its own UNet and scheduler."""
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(arguments["num_inference_steps"])
    latents = arguments["latents"] * scheduler.init_noise_sigma
    image, context = arguments["image_latents"], arguments["image_embeddings"]
    ids = arguments["added_time_ids"]
    if guidance is not None:
        image = torch.cat([torch.zeros_like(image), image])
        context = torch.cat([torch.zeros_like(context), context])
        ids = torch.cat([ids, ids])
    image = image[:, None].repeat(1, FRAMES, 1, 1, 1)
    for timestep in scheduler.timesteps:
        batch = torch.cat([latents] * (2 if guidance is not None else 1))
        sample = torch.cat([scheduler.scale_model_input(batch, timestep), image], dim=2)
        prediction = pipeline.unet(sample, timestep, context, ids).sample
        if guidance is not None:
            plain, guided = prediction.chunk(2)
            prediction = plain + guidance[None, :, None, None, None] * (guided - plain)
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    return latents


@pytest.mark.parametrize("scales", [(1.0, 3.0), (1.0, 1.0)])
def test_several_videos_at_once_equal_the_references_loop(
    tiny_pipeline: Any,
    unet: FusedUNet,
    arguments: dict[str, Any],
    distance: Any,
    scales: tuple[float, float],
) -> None:
    guidance = guidance_ramp(*scales, FRAMES)
    with torch.inference_mode():
        wanted = reference_loop(tiny_pipeline, guidance, arguments)
        found = denoise(unet, tiny_pipeline.scheduler, guidance=guidance, **arguments)
    assert distance(found, wanted) <= 2e-5


def test_guidance_rises_evenly_and_is_off_where_it_asks_for_none() -> None:
    ramp = guidance_ramp(1.0, 3.0, 5)
    assert ramp is not None
    assert ramp.tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert guidance_ramp(1.0, 1.0, 5) is None
    assert guidance_ramp(0.5, 0.9, 5) is None


def test_each_step_is_told_and_may_end_the_loop(
    tiny_pipeline: Any, unet: FusedUNet, arguments: dict[str, Any]
) -> None:
    class StopIt(Exception):
        pass

    told: list[tuple[int, int]] = []

    def on_step(done: int, total: int) -> None:
        told.append((done, total))
        if done == 2:
            raise StopIt

    with torch.inference_mode(), pytest.raises(StopIt):
        denoise(unet, tiny_pipeline.scheduler, guidance=None, on_step=on_step, **arguments)
    assert told == [(1, 4), (2, 4)]


def test_noise_levels_may_be_given(
    tiny_pipeline: Any, unet: FusedUNet, arguments: dict[str, Any]
) -> None:
    told: list[tuple[int, int]] = []
    del arguments["num_inference_steps"]
    with torch.inference_mode():
        found = denoise(
            unet,
            tiny_pipeline.scheduler,
            guidance=None,
            sigmas=[700.0, 10.0, 1.0, 0.0],
            on_step=lambda *event: told.append(event),
            **arguments,
        )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert bool(torch.isfinite(found).all())
