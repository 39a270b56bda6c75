"""Every memory plan of the fused engine on the tiny checkpoint: the frames stay the same."""

from __future__ import annotations

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
from svd_local.engine.guests import Guests
from svd_local.engine.loading import FP16, FP32, load
from svd_local.engine.streams import drained, joined, whole
from svd_local.engine.values import Sampling, ignore_check, ignore_report


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


def test_every_plan_gives_the_references_frames(
    tiny_models: Path, tiny_pipeline: Any, picture: Any, quick: Sampling
) -> None:
    checkpoint = resolve("tiny-svd", tiny_models)
    wanted = whole(reference.render(tiny_pipeline, picture, quick)).frames
    runner = FusedRunner(load(checkpoint, "cpu", FP32), "cpu")
    ways = fused_ways(blueprint_of(checkpoint), quick, itemsize=4, on_gpu=True)
    # Each kind of placement, step and decode at least once with each of the others' kinds.
    chosen = [way for index, way in enumerate(ways) if index % 3 == 0]
    for part in ("weights", "step", "decode"):
        assert {getattr(w, part) for w in chosen} == {getattr(w, part) for w in ways}

    for way in chosen:
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


def test_a_phase_that_fails_leaves_nothing_behind(
    tiny_models: Path, picture: Any, quick: Sampling
) -> None:
    """In half precision, where the picture's encoder is cast on its visit."""
    checkpoint = resolve("tiny-svd", tiny_models)
    runner = FusedRunner(load(checkpoint, "cpu", FP16), "cpu")
    ways = fused_ways(blueprint_of(checkpoint), quick, itemsize=2, on_gpu=True)
    [way] = [way for way in ways if way.plan == "one network at a time"]
    runner.prepare(way)
    before, _ = ran(runner, way, picture, quick)

    def fail(*_: Any) -> None:
        raise LookupError("injected")

    hook = runner.pipeline.vae.encoder.register_forward_pre_hook(fail)
    with pytest.raises(LookupError):
        ran(runner, way, picture, quick)
    hook.remove()
    runner.recover()
    runner.prepare(way)
    again, _ = ran(runner, way, picture, quick)

    assert np.array_equal(again, before)
    assert {w.dtype for w in runner.pipeline.vae.encoder.parameters()} == {torch.float16}


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
