"""Clips by the fused engine through a session: the same frames, and the same ways out of trouble."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from svd_local.engine import fused_runner
from svd_local.engine import session as session_module
from svd_local.engine.checkpoints import resolve
from svd_local.engine.fused import fp8
from svd_local.engine.fused import render as fused_render
from svd_local.engine.fused.kernels.choice import ALL, NONE, Kernels, active
from svd_local.engine.fused.regions import Compilation
from svd_local.engine.fused.unet import FusedUNet
from svd_local.engine.loading import FP16, FP32, Precision, load
from svd_local.engine.session import Session
from svd_local.engine.takes import Gathered, gathered
from svd_local.engine.values import Caching, Sampling
from svd_local.errors import BadOutput, InvalidRequest, OutOfMemory


@pytest.fixture
def session(tiny_models: Path) -> Iterator[Session]:
    made = Session(resolve("tiny-svd", tiny_models), "cpu")
    yield made
    made.close()


def differing(found: Gathered, wanted: Gathered) -> float:
    """Share of values more than a grey level apart."""
    apart = found.frames.astype(int) - wanted.frames
    return float((np.abs(apart) > 1).mean())


def test_engines_take_turns_on_one_session(session: Session, picture: Any, quick: Sampling) -> None:
    stages: list[str] = []

    def make(engine: Any) -> Gathered:
        return gathered(
            session.make(
                picture, quick, engine=engine, report=lambda stage, *_: stages.append(stage)
            )
        )

    before, fused, again, after = (
        make(engine) for engine in ("reference", "fused", "fused", "reference")
    )

    assert differing(fused, before) <= 0.001
    assert np.array_equal(again.frames, fused.frames)
    assert np.array_equal(after.frames, before.frames)
    assert [made.engine for made in (before, fused, after)] == ["reference", "fused", "reference"]
    assert stages.count("load") == 3  # folded once, and from the files again for the reference
    assert (before.decode_chunk, fused.decode_chunk) == (3, None)
    assert fused.notes == ()


def test_the_memory_is_predicted_and_measured(
    session: Session, picture: Any, quick: Sampling
) -> None:
    memory = gathered(session.make(picture, quick, engine="fused")).memory

    assert memory.plan == "resident"
    assert memory.predicted_peak_bytes == pytest.approx(memory.measured_peak_bytes, rel=0.03)


def test_a_budget_leads_to_a_smaller_plan_that_keeps_to_it(
    session: Session, picture: Any, quick: Sampling
) -> None:
    roomy = gathered(session.make(picture, quick, engine="fused"))
    assert roomy.memory.predicted_peak_bytes is not None
    budget = roomy.memory.predicted_peak_bytes - 1

    tight = gathered(session.make(picture, quick, engine="fused", budget=budget))

    assert tight.memory.plan == "resident + streaming decode"
    assert (tight.memory.measured_peak_bytes or budget) < budget
    assert tight.memory.budget_bytes == budget
    assert differing(tight, roomy) == 0
    assert tight.notes == ()


def test_too_small_a_budget_is_refused_before_anything_loads(
    session: Session, picture: Any, quick: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "load", lambda *_: pytest.fail("loaded"))

    with pytest.raises(InvalidRequest, match="1MiB is too little") as refused:
        gathered(session.make(picture, quick, engine="fused", budget=2**20))

    assert refused.value.field == "vram_budget"


def test_out_of_memory_steps_down_and_then_says_so(
    session: Session, picture: Any, quick: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = gathered(session.make(picture, quick, engine="fused"))
    failures = 1
    denoise = fused_render.denoise

    def run_out(*arguments: Any, **options: Any) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise torch.OutOfMemoryError("injected")
        return denoise(*arguments, **options)

    monkeypatch.setattr(fused_render, "denoise", run_out)
    made = gathered(session.make(picture, quick, engine="fused"))
    failures = 99
    with pytest.raises(OutOfMemory, match="3 frames at 64x64 do not fit") as failed:
        gathered(session.make(picture, quick, engine="fused"))
    failures = 0

    assert made.memory.plan == "resident + streaming decode"
    assert made.notes == ("out of memory with resident",)
    assert differing(made, before) == 0
    assert "--allow-approximate" not in failed.value.hint
    after = gathered(session.make(picture, quick, engine="fused"))
    assert np.array_equal(after.frames, before.frames)


@pytest.mark.parametrize("stage", ["encode-image", "denoise", "decode"])
def test_stopped_anywhere_the_next_clip_is_the_same(
    session: Session, picture: Any, quick: Sampling, stage: str
) -> None:
    before = gathered(session.make(picture, quick, engine="fused"))

    class StopIt(Exception):
        pass

    def report(now: str, *_: Any) -> None:
        if now == stage:
            raise StopIt

    with pytest.raises(StopIt):
        gathered(session.make(picture, quick, engine="fused", report=report))
    after = gathered(session.make(picture, quick, engine="fused"))

    assert np.array_equal(after.frames, before.frames)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Precision]:
    """The precisions in which the networks were loaded; the UNet gives NaN in half precision."""
    precisions: list[Precision] = []

    def loader(checkpoint: Any, device: str, precision: Precision) -> Any:
        pipeline = load(checkpoint, device, precision)
        precisions.append(precision)
        if precision == FP16:
            pipeline.unet.conv_norm_out.weight.data.fill_(float("nan"))
        return pipeline

    monkeypatch.setattr(session_module, "load", loader)
    return precisions


def test_nan_is_tried_again_in_a_safer_precision(
    tiny_models: Path, picture: Any, quick: Sampling, loaded: list[Precision]
) -> None:
    checkpoint = resolve("tiny-svd", tiny_models)
    right = gathered(Session(checkpoint, "cpu").make(picture, quick, engine="fused"))
    loaded.clear()

    made = gathered(Session(checkpoint, "cpu", FP16).make(picture, quick, engine="fused"))

    assert loaded == [FP16, FP32]
    assert (made.precision, made.engine) == ("float32", "fused")
    assert "made again in float32" in made.notes[0]
    assert np.array_equal(made.frames, right.frames)


def test_nan_in_full_precision_is_an_error(
    session: Session, picture: Any, quick: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loader(*arguments: Any) -> Any:
        pipeline = load(*arguments)
        pipeline.unet.conv_norm_out.weight.data.fill_(float("nan"))
        return pipeline

    monkeypatch.setattr(session_module, "load", loader)

    with pytest.raises(BadOutput, match="the denoiser gave NaN"):
        gathered(session.make(picture, quick, engine="fused"))


def test_a_model_it_does_not_know_runs_on_the_reference_and_says_so(
    session: Session, picture: Any, quick: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = gathered(session.make(picture, quick))
    session.close()
    times = 0

    def loader(*arguments: Any) -> Any:
        nonlocal times
        times += 1
        pipeline = load(*arguments)
        pipeline.unet.mid_block.register_forward_hook(lambda *_: None)
        return pipeline

    monkeypatch.setattr(session_module, "load", loader)
    first, second = (gathered(session.make(picture, quick, engine="fused")) for _ in range(2))

    assert times == 1
    for made in (first, second):
        assert (made.engine, made.decode_chunk) == ("reference", 3)
        assert made.notes == (
            "ran on the reference engine: the fused engine does not know unet.mid_block: "
            "found UNetMidBlockSpatioTemporal with forward hooks, "
            "knows a bare UNetMidBlockSpatioTemporal",
        )
        assert np.array_equal(made.frames, wanted.frames)


def test_the_chunk_of_the_reference_does_not_matter(
    session: Session, picture: Any, quick: Sampling
) -> None:
    chunked = dataclasses.replace(quick, decode_chunk=1)

    made = [gathered(session.make(picture, one, engine="fused")) for one in (quick, chunked)]

    assert np.array_equal(made[0].frames, made[1].frames)
    assert made[1].notes == ()


def test_compiled_or_in_eight_bits_a_clip_says_so(
    session: Session, picture: Any, quick: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch would compile is taken as it is; that it is the same is shown elsewhere."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(fp8, "LEAST_INPUTS", 64)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/nowhere")

    def make(**changes: Any) -> Gathered:
        compiled = changes.pop("compiled", False)
        sampling = dataclasses.replace(quick, **changes)
        return gathered(session.make(picture, sampling, engine="fused", compiled=compiled))

    exact, compiled, eight, again = (
        make(),
        make(compiled=True),
        make(fp8=True, caching=Caching(2, 1)),
        make(),
    )

    plans = [made.memory.plan for made in (exact, compiled, eight, again)]
    assert plans == ["resident", "resident + compiled", "resident", "resident"]
    assert np.array_equal(compiled.frames, exact.frames)
    assert not np.array_equal(eight.frames, exact.frames)
    assert np.abs(eight.frames.astype(int) - exact.frames).mean() < 20
    assert np.array_equal(again.frames, exact.frames)
    assert [made.notes for made in (exact, compiled, eight)] == [(), (), ()]


def test_what_cannot_be_compiled_is_made_all_the_same_and_told(
    session: Session, picture: Any, quick: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/nowhere")
    monkeypatch.setattr(fused_runner, "Compilation", lambda: Compilation("none such"))
    exact = gathered(session.make(picture, quick, engine="fused"))
    found = gathered(session.make(picture, quick, engine="fused", compiled=True))

    assert np.array_equal(found.frames, exact.frames)
    assert found.memory.plan == "resident"
    [note] = found.notes
    assert note.startswith("not compiled")
    assert "none such" in note


def test_eight_bits_need_a_gpu_that_has_them(
    tiny_models: Path, picture: Any, quick: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Testing 3090")
    session = Session(resolve("tiny-svd", tiny_models), "cuda", FP16)

    with pytest.raises(InvalidRequest, match=r"capability 8\.9 .*Testing 3090 has 8\.6"):
        gathered(session.make(picture, dataclasses.replace(quick, fp8=True), engine="fused"))


def test_kernels_that_ran_are_named_and_those_that_did_not_are_told(
    session: Session, picture: Any, quick: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; here, in single precision, their twins do the work."""
    plain = gathered(session.make(picture, quick, engine="fused"))
    session.close()
    chosen = Kernels(won={("geglu", 32): {}, ("group-norm", 64): {}})
    monkeypatch.setattr(session, "_kernels", lambda _: (chosen, ("the other one is not used",)))
    in_force = []
    step = FusedUNet.step
    monkeypatch.setattr(FusedUNet, "step", lambda *given: in_force.append(active()) or step(*given))

    made = gathered(session.make(picture, quick, engine="fused"))

    assert made.memory.plan == "resident; kernels: group-norm, geglu"
    assert made.notes == ("the other one is not used",)
    assert in_force
    assert all(kernels is chosen for kernels in in_force)
    assert active() == NONE
    assert differing(made, plain) == 0


@pytest.mark.parametrize("wish", ["auto", "all", "none"])
def test_on_the_cpu_plain_torch_runs_whatever_is_wished(tiny_models: Path, wish: Any) -> None:
    session = Session(resolve("tiny-svd", tiny_models), "cpu", FP16, kernels=wish)
    assert session._kernels(FP16) == (NONE, ())


@pytest.mark.parametrize(("wish", "expected"), [("none", NONE), ("auto", NONE), ("all", ALL)])
def test_on_a_gpu_what_is_wished_is_proven_first(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, wish: Any, expected: Kernels
) -> None:
    asked = []

    def proven(kernels: Kernels, device: str, dtype: torch.dtype) -> Any:
        asked.append((device, dtype))
        return kernels, ()

    monkeypatch.setattr(session_module, "proven", proven)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A card of tomorrow")
    session = Session(resolve("tiny-svd", tiny_models), "cuda", kernels=wish)
    assert session._kernels(FP16) == (expected, ())
    assert session._kernels(FP32) == (NONE, ())
    assert set(asked) <= {("cuda", torch.float16), ("cuda", torch.float32)}
