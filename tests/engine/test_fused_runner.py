"""Every memory plan of the fused engine on the tiny checkpoint: the frames stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from svd_local.engine import reference
from svd_local.engine.blueprint import blueprint_of
from svd_local.engine.checkpoints import resolve
from svd_local.engine.fused.weights import tensors
from svd_local.engine.fused_plan import FusedWay, fused_ways
from svd_local.engine.fused_runner import FusedRunner
from svd_local.engine.guests import Guests, LayerGuests
from svd_local.engine.loading import FP16, FP32, load
from svd_local.engine.streams import drained, joined, whole
from svd_local.engine.values import Sampling, ignore_check, ignore_report

SMALLEST = "weights streamed + pieces, skips in host memory + streaming decode from host memory"


def ran(runner: FusedRunner, way: FusedWay, image: Any, sampling: Sampling) -> tuple[Any, int]:
    """A clip's frames, and its peak."""
    chunks, (_, peak) = drained(
        runner.render(way, image, sampling, report=ignore_report, check=ignore_check)
    )
    return joined(chunks), peak


def same(found: Any, wanted: Any) -> bool:
    """Whether no more than one value in a thousand is more than one grey level off."""
    close = np.abs(found.astype(int) - wanted.astype(int)) <= 1
    return bool(close.mean() >= 0.999)


def kinds(way: FusedWay) -> set[tuple[str, str]]:
    return {("weights", way.weights), ("step", way.step), ("decode", way.decode)}


def of_each_kind(ways: Sequence[FusedWay]) -> list[FusedWay]:
    """Few of ``ways``, with each placement, step and decode among them."""
    chosen: list[FusedWay] = []
    missing = set().union(*(kinds(way) for way in ways))
    while missing:
        chosen.append(max(reversed(ways), key=lambda way: len(kinds(way) & missing)))
        missing -= kinds(chosen[-1])
    return chosen


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)])
def test_every_plan_gives_the_references_frames(
    tiny_models: Path, tiny_pipeline: Any, picture: Any, quick: Sampling, every: bool
) -> None:
    checkpoint = resolve("tiny-svd", tiny_models)
    wanted = whole(reference.render(tiny_pipeline, picture, quick)).frames
    runner = FusedRunner(load(checkpoint, "cpu", FP32), "cpu")
    ways = fused_ways(blueprint_of(checkpoint), quick, itemsize=4, on_gpu=True)

    for way in ways if every else of_each_kind(ways):
        runner.prepare(way)
        frames, peak = ran(runner, way, picture, quick)
        assert same(frames, wanted), way.plan
        assert peak > 0


def test_on_the_cpu_what_is_counted_is_what_was_predicted(
    tiny_models: Path, picture: Any, quick: Sampling
) -> None:
    checkpoint = resolve("tiny-svd", tiny_models)
    runner = FusedRunner(load(checkpoint, "cpu", FP32), "cpu")

    for way in fused_ways(blueprint_of(checkpoint), quick, itemsize=4, on_gpu=False):
        runner.prepare(way)
        _, peak = ran(runner, way, picture, quick)
        assert way.peak_bytes == pytest.approx(peak, rel=0.03), way.plan


def test_no_weight_is_kept_twice(tiny_models: Path) -> None:
    pipeline = load(resolve("tiny-svd", tiny_models), "cpu", FP32)
    networks = (pipeline.unet, pipeline.vae, pipeline.image_encoder)
    before = sum(weight.nbytes for network in networks for weight in network.parameters())

    runner = FusedRunner(pipeline, "cpu")

    left = [weight for weight in pipeline.unet.parameters() if weight.device.type != "meta"]
    assert left == []
    assert {weight.device.type for weight in pipeline.vae.decoder.parameters()} == {"meta"}
    # What folding adds to the decoder and the UNet is less than what it takes away or a twentieth.
    assert runner._weight_bytes() < 1.15 * before


def vae_encoder(runner: FusedRunner) -> Any:
    return runner.pipeline.vae.encoder.conv_in


def image_encoder_layer(runner: FusedRunner) -> Any:
    return runner.pipeline.image_encoder.vision_model.encoder.layers[1]


@pytest.mark.parametrize(
    ("plan", "where"),
    [
        ("one network at a time", vae_encoder),
        ("weights streamed", vae_encoder),
        ("weights streamed", image_encoder_layer),
    ],
)
def test_an_encoder_that_fails_leaves_nothing_behind(
    tiny_models: Path, picture: Any, quick: Sampling, plan: str, where: Any
) -> None:
    """In half precision, where the picture's encoder is cast for its visit."""
    runner, way = prepared(tiny_models, quick, plan)
    before = clip(runner, way, picture, quick)
    hooks = len(where(runner)._forward_pre_hooks)

    def fail(*_: Any) -> None:
        raise LookupError("injected")

    hook = where(runner).register_forward_pre_hook(fail)
    with pytest.raises(LookupError):
        clip(runner, way, picture, quick)
    hook.remove()
    runner.recover()
    assert len(where(runner)._forward_pre_hooks) == hooks == 0
    runner.prepare(way)

    assert np.array_equal(clip(runner, way, picture, quick), before)
    for network in (runner.pipeline.vae.encoder, runner.pipeline.image_encoder):
        assert {w.dtype for w in network.parameters()} == {torch.float16}


@pytest.mark.parametrize("stage", ["denoise", "decode"])
def test_a_clip_with_streamed_weights_that_is_stopped_leaves_nothing_behind(
    tiny_models: Path, picture: Any, quick: Sampling, stage: str
) -> None:
    class StopIt(Exception):
        pass

    runner, way = prepared(tiny_models, quick, "weights streamed")
    before = clip(runner, way, picture, quick)
    weights = [w.clone() for w in tensors(runner._folded.unet.weights)]

    def report(now: str, done: int, _: int) -> None:
        if now == stage and done:
            raise StopIt

    with pytest.raises(StopIt):
        drained(runner.render(way, picture, quick, report=report, check=ignore_check))
    runner.recover()
    runner.prepare(way)

    assert np.array_equal(clip(runner, way, picture, quick), before)
    for now, then in zip(tensors(runner._folded.unet.weights), weights, strict=True):
        assert torch.equal(now, then)


def test_streamed_weights_give_the_same_bytes_as_those_at_hand(
    tiny_models: Path, picture: Any, quick: Sampling
) -> None:
    """With the same passes, through every network: the two encoders, the UNet, the decoder."""
    runner, streamed = prepared(tiny_models, quick, SMALLEST)
    found = clip(runner, streamed, picture, quick)
    _, resident = prepared(tiny_models, quick, SMALLEST.replace("weights streamed", "resident"))
    runner.prepare(resident)

    assert np.array_equal(clip(runner, resident, picture, quick), found)


def prepared(models: Path, sampling: Sampling, plan: str) -> tuple[FusedRunner, FusedWay]:
    """In half precision, placed as the plan of that name says."""
    checkpoint = resolve("tiny-svd", models)
    ways = fused_ways(blueprint_of(checkpoint), sampling, itemsize=2, on_gpu=True)
    [way] = [way for way in ways if way.plan == plan]
    runner = FusedRunner(load(checkpoint, "cpu", FP16), "cpu")
    runner.prepare(way)
    return runner, way


def clip(runner: FusedRunner, way: FusedWay, picture: Any, sampling: Sampling) -> Any:
    frames, _ = ran(runner, way, picture, sampling)
    return frames


def test_layers_visit_one_at_a_time_and_go_home_after_an_error() -> None:
    seen: list[list[str]] = []

    class Layer(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append([w.device.type for w in network.parameters()])
            if len(seen) == 4:
                raise LookupError("injected")
            return x

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Parameter(torch.zeros(1))
            self.layers = torch.nn.ModuleList(Layer(2, 2, bias=False) for _ in range(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    network = Network()
    guests = LayerGuests(network)
    guests.visit("meta")
    network(torch.zeros(1))
    with pytest.raises(LookupError):
        network(torch.zeros(1))
    assert seen[:2] == [["meta", "meta", "cpu"], ["meta", "cpu", "meta"]]
    assert [w.device.type for w in network.parameters()] == ["meta", "cpu", "cpu"]
    guests.go_home()

    network(torch.zeros(1))
    assert seen[-1] == ["cpu"] * 3


def test_guests_leave_their_homes_as_they_were() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    weights = list(module.parameters())
    guests = Guests([module])

    guests.visit("meta")
    assert {tensor.device.type for tensor in module.state_dict().values()} == {"meta"}
    guests.go_home()

    assert all(now is before for now, before in zip(module.parameters(), weights, strict=True))
    assert {tensor.device.type for tensor in module.state_dict().values()} == {"cpu"}
    assert (
        len(guests.tensors())
        == len(module.state_dict())
        == len(list(tensors(tuple(guests.tensors()))))
    )


@pytest.mark.cuda
def test_on_the_gpu_every_plan_gives_the_same_frames_in_the_memory_predicted(
    tiny_models: Path, picture: Any, quick: Sampling
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    checkpoint = resolve("tiny-svd", tiny_models)
    runner = FusedRunner(load(checkpoint, "cuda", FP16), "cuda")
    first = None
    for way in fused_ways(blueprint_of(checkpoint), quick, itemsize=2, on_gpu=True):
        runner.prepare(way)
        torch.cuda.reset_peak_memory_stats()
        frames, peak = ran(runner, way, picture, quick)
        first = frames if first is None else first
        assert same(frames, first), way.plan
        assert peak <= 1.1 * way.peak_bytes + 2**25, way.plan  # cuDNN's and cuBLAS's workspaces
    runner.close()
