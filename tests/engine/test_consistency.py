"""The scheduler of distilled checkpoints: its arithmetic, its noise, and both engines with it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from svd_local.engine import reference
from svd_local.engine.consistency import ConsistencyScheduler, noise_level
from svd_local.engine.fused.render import Fused, render
from svd_local.engine.streams import whole
from svd_local.engine.values import Sampling


@pytest.fixture
def distilled(quick: Sampling) -> Sampling:
    return dataclasses.replace(quick, steps=4, schedule="consistency", guidance=(1.0, 1.2))


@pytest.fixture
def pipeline(tiny_pipeline: Any) -> Iterator[Any]:
    """The tiny pipeline with this scheduler, and afterwards as it was."""
    usual = tiny_pipeline.scheduler
    tiny_pipeline.scheduler = ConsistencyScheduler()
    yield tiny_pipeline
    tiny_pipeline.scheduler = usual


def test_the_levels_are_karras_from_700_down_to_0_002() -> None:
    levels = [noise_level(index) for index in range(40)]
    assert levels[0] == pytest.approx(700)
    assert levels[-1] == pytest.approx(0.002)
    roots = np.diff([level ** (1 / 7) for level in levels])
    assert np.allclose(roots, roots[0])


@pytest.mark.parametrize(
    ("steps", "chosen"), [(1, [0]), (2, [0, 20]), (4, [0, 10, 20, 30]), (8, [*range(0, 40, 5)])]
)
def test_steps_take_every_so_manieth_level(steps: int, chosen: list[int]) -> None:
    scheduler = ConsistencyScheduler()
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps is not None
    assert scheduler.sigmas == pytest.approx([*(noise_level(index) for index in chosen), 0.0])
    told = [math.log(level) / 4 for level in scheduler.sigmas[:-1]]
    assert scheduler.timesteps.tolist() == pytest.approx(told)
    with pytest.raises(ValueError, match="1 to 40"):
        scheduler.set_timesteps(41)


def test_a_network_that_knows_the_clip_gives_it_back_and_noise_is_added_between() -> None:
    """The right prediction is the one whose scalings come to the clean clip."""
    noise = torch.Generator().manual_seed(1)
    clean = torch.randn(1, 3, 4, 5, 6, generator=noise, dtype=torch.float64)
    scheduler, twin = ConsistencyScheduler(), torch.Generator().manual_seed(9)
    scheduler.generator = torch.Generator().manual_seed(9)
    scheduler.set_timesteps(4)
    assert scheduler.timesteps is not None
    x = clean + 700 * torch.randn(clean.shape, generator=noise, dtype=torch.float64)
    for step, timestep in enumerate(scheduler.timesteps):
        sigma, after = scheduler.sigmas[step : step + 2]
        scale = (sigma**2 + 1) ** 0.5
        assert torch.allclose(scheduler.scale_model_input(x, timestep), x / scale)
        prediction = (x / scale**2 - clean) * scale / sigma
        x = scheduler.step(prediction, timestep, x).prev_sample
        wanted = clean
        if after:
            wanted = clean + after * torch.randn(clean.shape, generator=twin).double()
        assert torch.allclose(x, wanted, rtol=0, atol=1e-9)


def test_noise_has_to_come_from_somewhere() -> None:
    scheduler = ConsistencyScheduler()
    scheduler.set_timesteps(2)
    with pytest.raises(ValueError, match="no generator"):
        scheduler.step(torch.zeros(1), 0, torch.zeros(1))


def test_half_precision_keeps_its_type_and_does_not_overflow() -> None:
    scheduler = ConsistencyScheduler()
    scheduler.generator = torch.Generator().manual_seed(1)
    scheduler.set_timesteps(4)
    sample = torch.full((4,), 3_000.0, dtype=torch.float16)
    made = scheduler.step(torch.ones(4, dtype=torch.float16), 0, sample).prev_sample
    assert made.dtype == torch.float16
    assert bool(torch.isfinite(made).all())


@pytest.mark.parametrize("guidance", [(1.0, 1.2), (1.0, 1.0)])
def test_both_engines_make_the_bare_pipelines_clip(
    pipeline: Any, distilled: Sampling, picture: Image.Image, guidance: tuple[float, float]
) -> None:
    sampling = dataclasses.replace(distilled, guidance=guidance)
    generator = torch.Generator("cpu").manual_seed(sampling.seed)
    pipeline.scheduler.generator = generator
    bare = pipeline(
        picture,
        width=64,
        height=64,
        num_frames=3,
        num_inference_steps=4,
        min_guidance_scale=guidance[0],
        max_guidance_scale=guidance[1],
        generator=generator,
        output_type="np",
    ).frames[0]

    wanted = whole(reference.render(pipeline, picture, sampling)).frames
    found = whole(render(pipeline, Fused.from_pipeline(pipeline), picture, sampling)).frames

    assert np.array_equal(wanted, (bare * 255).round().astype(np.uint8))
    assert (np.abs(found.astype(int) - wanted) <= 1).mean() >= 0.999
    assert np.ptp(found) > 20


def test_without_guidance_half_the_batch_runs(
    pipeline: Any, distilled: Sampling, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.engine.fused import unet as fused_unet

    batches: list[int] = []
    features = fused_unet.features

    def watched(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        batches.append(x.shape[0])
        return features(x, *rest)

    monkeypatch.setattr(fused_unet, "features", watched)
    fused = Fused.from_pipeline(pipeline)
    for guidance in ((1.0, 1.2), (1.0, 1.0)):
        few = dataclasses.replace(distilled, guidance=guidance, steps=2)
        whole(render(pipeline, fused, picture, few))
    assert batches == [2, 2, 1, 1]


def test_the_schedule_and_the_scheduler_belong_together(
    pipeline: Any, distilled: Sampling, quick: Sampling, picture: Image.Image
) -> None:
    with pytest.raises(ValueError, match="ConsistencyScheduler has no schedule karras"):
        whole(reference.render(pipeline, picture, quick))
    pipeline.scheduler = type("Other", (), {})()
    with pytest.raises(ValueError, match="Other has no schedule consistency"):
        whole(reference.render(pipeline, picture, distilled))
