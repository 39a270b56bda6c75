"""Deep features reused from step to step: what is reused, and that nothing else changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from svd_local.engine.fused.deep_cache import DeepCache
from svd_local.engine.fused.denoise import denoise, guidance_ramp
from svd_local.engine.fused.passes import Passes
from svd_local.engine.fused.skips import HostSkips
from svd_local.engine.fused.unet import ClipConstants, FusedUNet
from svd_local.engine.values import Caching

FRAMES, SIZE, STEPS = 3, (9, 7), 5
STREAMED = {"streamed": True}


@pytest.fixture(scope="module")
def unet(tiny_pipeline: Any) -> FusedUNet:
    return FusedUNet.from_reference(tiny_pipeline.unet)


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def clip(unet: FusedUNet) -> ClipConstants:
    return unet.prepare(
        image_latents=noise(2, 4, *SIZE),
        image_embeddings=noise(2, 1, 64),
        added_time_ids=torch.tensor([[6.0, 127.0, 0.02]]),
        timesteps=torch.linspace(1.6, -1.5, STEPS),
        num_frames=FRAMES,
        guidance=torch.linspace(1, 3, FRAMES),
    )


def predictions(unet: FusedUNet, clip: ClipConstants, caching: Caching | None) -> list[Any]:
    """Each step's prediction from latents of its own."""
    deep = None if caching is None else DeepCache(caching)
    latents = [noise(1, FRAMES, 4, *SIZE, seed=step) for step in range(STEPS)]
    with torch.inference_mode():
        return [unet.step(latents[step], clip, step, deep) for step in range(STEPS)]


def test_every_interval_th_step_is_the_exact_one_bit_for_bit(
    unet: FusedUNet, clip: ClipConstants, distance: Any
) -> None:
    exact = predictions(unet, clip, None)
    cached = predictions(unet, clip, Caching(interval=2, depth=1))

    assert [torch.equal(a, b) for a, b in zip(cached, exact, strict=True)] == [
        *(True, False, True, False, True)
    ]
    assert 1e-4 < distance(cached[1], exact[1]) < 1


def test_an_interval_of_one_is_exact_bit_for_bit(unet: FusedUNet, clip: ClipConstants) -> None:
    exact = predictions(unet, clip, None)
    cached = predictions(unet, clip, Caching(interval=1, depth=1))
    assert all(torch.equal(a, b) for a, b in zip(cached, exact, strict=True))


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 8, 11])
def test_a_repeated_step_needs_no_more_than_its_deep_feature(
    unet: FusedUNet, clip: ClipConstants, depth: int
) -> None:
    """Where nothing has changed since the whole step, what is kept is what would be computed."""
    latents, deep = noise(1, FRAMES, 4, *SIZE), DeepCache(Caching(interval=9, depth=depth))
    same = dataclasses.replace(
        clip, biases=tuple((s[:1].expand_as(s), t[:1].expand_as(t)) for s, t in clip.biases)
    )
    with torch.inference_mode():
        whole, shallow = (unet.step(latents, same, step, deep) for step in (0, 1))
    assert torch.equal(whole, shallow)


@pytest.mark.parametrize(
    ("depth", "levels_down", "levels_up"),
    [
        (1, [(0, 0)], [(3, 1), (3, 2)]),
        (2, [(0, 0), (0, 1)], [(3, 0), (3, 1), (3, 2)]),
        (3, [(0, 0), (0, 1)], [(2, 2), (3, 0), (3, 1), (3, 2)]),
        (4, [(0, 0), (0, 1), (1, 0)], [(2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]),
    ],
)
def test_only_the_shallow_layers_run(
    unet: FusedUNet,
    clip: ClipConstants,
    depth: int,
    levels_down: list[tuple[int, int]],
    levels_up: list[tuple[int, int]],
) -> None:
    """Weights that are NaN wherever a cached step has no business do not reach its result."""

    def spoiled(stages: Any, spared: list[tuple[int, int]]) -> Any:
        def layer(stage: int, index: int, made: Any) -> Any:
            if (stage, index) in spared:
                return made
            block, transformer = made
            conv2 = block.spatial.conv2
            nan = dataclasses.replace(conv2, weight=torch.full_like(conv2.weight, torch.nan))
            spatial = dataclasses.replace(block.spatial, conv2=nan)
            return dataclasses.replace(block, spatial=spatial), transformer

        return tuple(
            dataclasses.replace(
                stage, layers=tuple(layer(i, j, one) for j, one in enumerate(stage.layers))
            )
            for i, stage in enumerate(stages)
        )

    weights = unet.weights
    half = dataclasses.replace(
        weights,
        down=spoiled(weights.down, levels_down),
        mid=spoiled((weights.mid,), [])[0],
        up=spoiled(weights.up, levels_up),
    )
    deep, latents = DeepCache(Caching(2, depth)), noise(1, FRAMES, 4, *SIZE)
    with torch.inference_mode():
        unet.step(latents, clip, 0, deep)
        shallow = dataclasses.replace(unet, weights=half).step(latents, clip, 1, deep)
        whole = dataclasses.replace(unet, weights=half).step(latents, clip, 2, deep)
    assert bool(torch.isfinite(shallow).all())
    assert bool(torch.isnan(whole).any())


@pytest.mark.parametrize("depth", [1, 3, 11])
@pytest.mark.parametrize(
    "way",
    [
        {"one_by_one": True},
        {"passes": Passes(3_000)},
        {"passes": Passes(3_000), "one_by_one": True, "skips": HostSkips},
        STREAMED,
    ],
    ids=["halves", "pieces", "host", "streamed"],
)
def test_every_way_of_running_keeps_the_same_features(
    unet: FusedUNet, clip: ClipConstants, distance: Any, depth: int, way: dict[str, Any]
) -> None:
    caching = Caching(interval=3, depth=depth)
    plain = predictions(unet, clip, caching)
    run = unet.streamed("cpu") if way == STREAMED else dataclasses.replace(unet, **way)
    other = predictions(run, clip, caching)
    assert max(distance(a, b) for a, b in zip(other, plain, strict=True)) <= 5e-6


@pytest.mark.parametrize("seed", [0, 3])
def test_a_network_of_any_shape_equals_itself_where_nothing_changed(
    unet_case: Callable[..., Any], distance: Any, seed: int
) -> None:
    case = unet_case(seed)
    unet = FusedUNet.from_reference(case.unet)
    depths = sum(len(stage.layers) for stage in unet.weights.up) - 1
    clip = unet.prepare(
        image_latents=case.sample[:, :, case.sample.shape[2] // 2 :],
        image_embeddings=case.context,
        added_time_ids=case.time_ids,
        timesteps=case.timestep.repeat(2),
        num_frames=case.sample.shape[1],
    )
    latents = case.sample[:, :, : case.sample.shape[2] // 2]
    with torch.inference_mode():
        for depth in {1, (depths + 1) // 2, depths}:
            deep = DeepCache(Caching(2, depth))
            for step in (0, 1):
                assert distance(unet.step(latents, clip, step, deep), case.reference()) <= 1e-12
        with pytest.raises(ValueError, match=f"more than {depths} results"):
            unet.step(latents, clip, 0, DeepCache(Caching(2, depths + 1)))


@pytest.mark.parametrize("scales", [(1.0, 3.0), (1.0, 1.0)])
def test_the_loop_caches_with_and_without_guidance(
    tiny_pipeline: Any, unet: FusedUNet, distance: Any, scales: tuple[float, float]
) -> None:
    arguments: dict[str, Any] = {
        "latents": noise(1, FRAMES, 4, *SIZE),
        "image_latents": noise(1, 4, *SIZE),
        "image_embeddings": noise(1, 1, 64),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]]),
        "num_inference_steps": 6,
        "guidance": guidance_ramp(*scales, FRAMES),
    }

    def made(caching: Caching | None) -> torch.Tensor:
        with torch.inference_mode():
            return denoise(unet, tiny_pipeline.scheduler, caching=caching, **arguments)

    exact = made(None)
    assert torch.equal(made(Caching(1, 1)), exact)
    assert torch.equal(made(Caching(3, 1)), made(Caching(3, 1)))
    near, far = (distance(made(Caching(interval, 1)), exact) for interval in (2, 6))
    assert 0 < near < far


def test_caching_means_something() -> None:
    for interval, depth in ((0, 1), (3, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            Caching(interval, depth)
    assert [step for step in range(8) if Caching(3, 1).whole(step)] == [0, 3, 6]
