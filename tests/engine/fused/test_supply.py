"""Weights brought to the device part by part: the same result bit for bit, every load moved once a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from svd_local.engine.fused.passes import WHOLE, Passes
from svd_local.engine.fused.skips import HostSkips, ResidentSkips
from svd_local.engine.fused.supply import Streamed
from svd_local.engine.fused.unet import ClipConstants, FusedUNet
from svd_local.engine.fused.weights import Affine, map_tensors, parts_in_order, tensors

Run = Callable[[FusedUNet, int], torch.Tensor]


@pytest.fixture
def guided(unet_case: Any) -> Callable[..., tuple[FusedUNet, ClipConstants, torch.Tensor]]:
    """A random UNet in single precision, a guided clip of two steps and its latents."""

    def make(seed: int) -> tuple[FusedUNet, ClipConstants, torch.Tensor]:
        case = unet_case(seed, frames=3, in_channels=8, out_channels=4)
        unet = FusedUNet.from_reference(case.unet.float())
        noise = torch.Generator().manual_seed(seed)
        height, width = case.sample.shape[-2:]
        clip = unet.prepare(
            image_latents=torch.randn(2, 4, height, width, generator=noise),
            image_embeddings=torch.randn(2, 1, case.context.shape[-1], generator=noise),
            added_time_ids=torch.tensor([[6.0, 127.0, 0.02]]),
            timesteps=torch.tensor([1.6, 0.4]),
            num_frames=3,
            guidance=torch.linspace(1, 3, 3),
        )
        return unet, clip, torch.randn(1, 3, 4, height, width, generator=noise)

    return make


@pytest.mark.parametrize("seed", range(8))
def test_streamed_weights_change_no_bit(guided: Any, seed: int) -> None:
    """Deeper and shallower networks, odd sizes, both halves at once and one by one."""
    unet, clip, latents = guided(seed)
    unet = dataclasses.replace(
        unet,
        passes=(WHOLE, Passes(2_000))[seed % 2],
        one_by_one=seed % 4 > 1,
        skips=(ResidentSkips, HostSkips)[seed // 4],
    )
    streamed = unet.streamed("cpu")
    with torch.inference_mode():
        for step in (0, 1):
            assert torch.equal(streamed.step(latents, clip, step), unet.step(latents, clip, step))


@pytest.mark.parametrize(("one_by_one", "runs"), [(False, 1), (True, 2)])
def test_every_weight_moves_once_a_run(guided: Any, one_by_one: bool, runs: int) -> None:
    """One by one, the guidance halves are two runs; at once, a weight that moves serves both."""
    unet, clip, latents = guided(2)
    streamed = dataclasses.replace(unet.streamed("cpu"), one_by_one=one_by_one)
    supply = streamed.supply
    assert isinstance(supply, Streamed)
    network = sum(w.nbytes for part in parts_in_order(unet.weights) for w in tensors(part))
    moved = []
    with torch.inference_mode():
        for step in (0, 1, 0):
            before = supply.moved_bytes
            streamed.step(latents, clip, step)
            moved.append(supply.moved_bytes - before)
    ahead = moved[0] - runs * network
    assert 0 < ahead <= supply.held_bytes // 2  # the next run's first load is on its way already
    assert moved[1:] == [runs * network] * 2


def test_two_loads_lie_on_the_device_and_a_load_is_at_most_the_largest_part(guided: Any) -> None:
    unet, _, _ = guided(5)
    sizes = [sum(w.nbytes for w in tensors(part)) for part in parts_in_order(unet.weights)]
    supply = unet.streamed("cpu").supply
    assert isinstance(supply, Streamed)
    assert 2 * max(sizes) <= supply.held_bytes <= 2.1 * max(sizes)
    assert supply.held_bytes < sum(sizes)


def test_a_run_that_broke_off_does_not_spoil_the_next(guided: Any) -> None:
    class Broken(Exception):
        pass

    unet, clip, latents = guided(4)
    streamed = unet.streamed("cpu")

    class BreakingSkips(ResidentSkips):
        def pop(self) -> torch.Tensor:
            raise Broken

    broken = dataclasses.replace(streamed, skips=BreakingSkips)
    with torch.inference_mode():
        with pytest.raises(Broken):
            broken.step(latents, clip, 0)
        assert torch.equal(streamed.step(latents, clip, 1), unet.step(latents, clip, 1))


def parts(count: int) -> list[Affine]:
    return [Affine(torch.full((8, 8), float(i)), torch.full((8,), -float(i))) for i in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_any_order_gives_the_right_weights(count: int) -> None:
    given = parts(count)
    supply = Streamed(given, "cpu")
    for index in [*range(count), 0, count - 1, count // 2, count // 2, 0, *reversed(range(count))]:
        brought = supply.bring(given[index])
        assert torch.equal(brought.weight, given[index].weight)
        assert brought.bias is not None
        assert float(brought.bias[0]) == -index


def test_what_was_brought_before_is_written_over() -> None:
    """So that a part used after its time shows in the tests, not only on a GPU."""
    given = parts(3)
    supply = Streamed(given, "cpu")
    first = supply.bring(given[0])
    supply.bring(given[1])
    assert float(first.weight[0, 0]) == 2


def test_memory_order_and_type_are_kept() -> None:
    weight = torch.randn(4, 6, 3, 3).contiguous(memory_format=torch.channels_last)
    given = (Affine(weight, None), Affine(torch.randn(6, 5)[:, 1:4].half(), torch.tensor(0.25)))
    supply = Streamed([given], "cpu")
    brought = supply.bring(given)
    for found, wanted in zip(tensors(brought), tensors(given), strict=True):
        assert torch.equal(found, wanted)
        assert (found.dtype, found.stride()) == (wanted.dtype, wanted.stride())
        assert found.data_ptr() != wanted.data_ptr()


def test_an_empty_weight_is_no_obstacle() -> None:
    given = [Affine(torch.empty(0, 3), torch.zeros(2))]
    assert Streamed(given, "cpu").bring(given[0]).weight.shape == (0, 3)


def test_the_weights_at_home_stay_as_they_are(guided: Any) -> None:
    unet, clip, latents = guided(1)
    before = map_tensors(unet.weights, torch.clone)
    with torch.inference_mode():
        unet.streamed("cpu").step(latents, clip, 0)
    for now, then in zip(tensors(unet.weights), tensors(before), strict=True):
        assert torch.equal(now, then)


@pytest.mark.cuda
def test_on_the_gpu_streaming_changes_no_bit(guided: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for seed in range(4):
        unet, _, latents = guided(seed)
        pinned = dataclasses.replace(
            unet, weights=map_tensors(unet.weights, lambda w: w.half().pin_memory())
        )
        case = {
            "image_latents": torch.randn(2, 4, *latents.shape[-2:]),
            "image_embeddings": torch.randn(
                2, 1, unet.conditioning.transformers[0].contexts[0][0].value.weight.shape[1]
            ),
            "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]]),
            "timesteps": torch.tensor([1.6, 0.4]),
            "num_frames": 3,
            "guidance": torch.linspace(1, 3, 3),
        }
        resident, streamed = pinned.to("cuda", conditioning=False), pinned.streamed("cuda")
        with torch.inference_mode():
            clip = resident.prepare(**case)
            for step in (0, 1, 0, 1):
                wanted = resident.step(latents.cuda(), clip, step)
                assert torch.equal(streamed.step(latents.cuda(), clip, step), wanted)
