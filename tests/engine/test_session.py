import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from svd_local.engine import session as session_module
from svd_local.engine.checkpoints import resolve
from svd_local.engine.loading import FP16, FP32, Precision, load
from svd_local.engine.memory import GPU_OVERHEAD, predict
from svd_local.engine.placement import PLACEMENTS, Placement
from svd_local.engine.session import Session
from svd_local.engine.sizes import sizes_of
from svd_local.engine.takes import gathered
from svd_local.engine.values import Sampling
from svd_local.errors import BadOutput, InvalidRequest, OutOfMemory

Trouble = Callable[[Any], None]


@pytest.fixture
def session(tiny_models: Path) -> Iterator[Session]:
    made = Session(resolve("tiny-svd", tiny_models), "cpu")
    yield made
    made.close()


def budget_for(session: Session, sampling: Sampling, placement: Placement) -> int:
    """What the placement is predicted to need, to the byte."""
    sizes = sizes_of(session.checkpoint)
    return predict(placement, sizes, sampling, itemsize=4)


def pipeline_of(session: Session) -> Any:
    """The loaded pipeline, for tests that break it from inside."""
    assert session._runner is not None
    return session._runner.pipeline


def test_frames_do_not_change_with_offload(
    session: Session, picture: Any, quick: Sampling, tiny_pipeline: Any
) -> None:
    pictures = tiny_pipeline(
        picture,
        width=64,
        height=64,
        num_frames=3,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(quick.seed),
    ).frames[0]
    bare = np.stack([np.asarray(frame) for frame in pictures])

    ran = []
    for placement in (*PLACEMENTS, "resident"):
        budget = budget_for(session, quick, placement)
        made = gathered(session.make(picture, quick, budget=budget))
        assert np.array_equal(made.frames, bare), placement
        assert made.memory.predicted_peak_bytes == budget
        measured = made.memory.measured_peak_bytes
        # Offloaded weights have nowhere to go on the CPU: what is counted there is what is resident.
        assert measured == (pytest.approx(budget, rel=0.1) if placement == "resident" else None)
        ran.append(made.memory.plan)

    session.counts = False
    uncounted = gathered(session.make(picture, quick))
    assert uncounted.memory.measured_peak_bytes is None
    assert np.array_equal(uncounted.frames, bare)

    # A placement that fits the larger budget stays; the smallest budget forces the smallest one.
    assert ran == ["resident", "model-offload", "group-offload", "resident"]


@pytest.mark.parametrize("failures", [1, 2])
def test_out_of_memory_steps_down_and_the_frames_stay_the_same(
    session: Session, picture: Any, quick: Sampling, failures: int
) -> None:
    before = gathered(session.make(picture, quick)).frames
    left = failures

    def run_out(*_: Any) -> None:
        nonlocal left
        if left:
            left -= 1
            raise torch.OutOfMemoryError("injected")

    hook = pipeline_of(session).unet.register_forward_pre_hook(run_out)
    made = gathered(session.make(picture, quick))
    hook.remove()

    assert made.memory.plan == PLACEMENTS[failures]
    assert np.array_equal(made.frames, before)
    assert len([note for note in made.notes if "out of memory" in note]) == failures
    assert made.decode_chunk == 3


def test_when_nothing_fits_it_says_so_and_recovers(
    session: Session, picture: Any, quick: Sampling
) -> None:
    before = gathered(session.make(picture, quick)).frames

    def run_out(*_: Any) -> None:
        raise torch.OutOfMemoryError("injected")

    hook = pipeline_of(session).vae.decoder.register_forward_pre_hook(run_out)
    with pytest.raises(OutOfMemory, match="3 frames at 64x64 do not fit"):
        gathered(session.make(picture, quick))
    hook.remove()

    assert np.array_equal(gathered(session.make(picture, quick)).frames, before)


def test_only_with_leave_are_fewer_frames_decoded_at_once(
    session: Session, picture: Any, quick: Sampling
) -> None:
    gathered(session.make(picture, quick))
    decoder = pipeline_of(session).vae.decoder

    def run_out_of_three(_module: Any, inputs: Any) -> None:
        if len(inputs[0]) == 3:
            raise torch.OutOfMemoryError("injected")

    hook = decoder.register_forward_pre_hook(run_out_of_three)
    made = gathered(session.make(picture, quick, allow_approximate=True))
    with pytest.raises(OutOfMemory):
        gathered(session.make(picture, quick))
    hook.remove()

    assert made.decode_chunk == 2
    assert any(note.startswith("approximate") for note in made.notes)


@pytest.mark.parametrize(
    ("placement", "part"),
    [
        # Each placement and each part once; all pairs in the long run.
        pytest.param(placement, part, marks=[] if (i - j) % 3 == 0 else [pytest.mark.long])
        for i, placement in enumerate(PLACEMENTS)
        for j, part in enumerate(("unet", "vae.encoder", "vae.decoder"))
    ],
)
def test_after_an_exception_the_next_clip_is_bit_equal(
    tiny_models: Path,
    picture: Any,
    quick: Sampling,
    part: str,
    placement: Placement,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Half precision, because it is then that the picture's encoding casts the VAE to fp32.
    session = Session(resolve("tiny-svd", tiny_models), "cpu", FP16)
    sizes = sizes_of(session.checkpoint)
    budget = predict(placement, sizes, quick, itemsize=2)
    once = dataclasses.replace(quick, steps=1)
    before = gathered(session.make(picture, once, budget=budget))
    assert before.memory.plan == placement

    def fail(*_: Any) -> None:
        raise LookupError("injected")

    module = pipeline_of(session)
    for name in part.split("."):
        module = getattr(module, name)
    hook = module.register_forward_pre_hook(fail)
    with pytest.raises(LookupError):
        gathered(session.make(picture, once, budget=budget))
    hook.remove()
    again = gathered(session.make(picture, once, budget=budget))
    session.close()

    assert caplog.records == []  # diffusers has something to say whenever the VAE is cast
    assert again.memory.plan == placement
    assert again.precision == "float16"
    assert np.array_equal(again.frames, before.frames)


@pytest.fixture
def broken_half(monkeypatch: pytest.MonkeyPatch) -> list[Precision]:
    """Half precision gives NaN, as an overflow would; tells in which precisions was loaded."""
    loaded: list[Precision] = []

    def loader(checkpoint: Any, device: str, precision: Precision) -> Any:
        pipeline = load(checkpoint, device, precision)
        loaded.append(precision)
        if precision == FP16:
            pipeline.unet.register_forward_hook(
                lambda _module, _inputs, output: (output[0] * float("nan"),)
            )
        return pipeline

    monkeypatch.setattr(session_module, "load", loader)
    return loaded


def test_nan_is_tried_again_in_a_safer_precision(
    tiny_models: Path, picture: Any, quick: Sampling, broken_half: list[Precision]
) -> None:
    checkpoint = resolve("tiny-svd", tiny_models)
    right = gathered(Session(checkpoint, "cpu").make(picture, quick)).frames
    broken_half.clear()
    session = Session(checkpoint, "cpu", FP16)

    made = [gathered(session.make(picture, quick)) for _ in range(2)]

    assert [one.precision for one in made] == ["float32", "float32"]
    assert all(np.array_equal(one.frames, right) for one in made)
    assert "made again in float32" in made[0].notes[0]
    # The second clip begins in half precision again, freshly loaded.
    assert broken_half == [FP16, FP32, FP16, FP32]


def test_nan_in_full_precision_is_an_error(session: Session, picture: Any, quick: Sampling) -> None:
    before = gathered(session.make(picture, quick)).frames
    hook = pipeline_of(session).unet.register_forward_hook(
        lambda _module, _inputs, output: (output[0] * float("nan"),)
    )

    with pytest.raises(BadOutput, match="tiny-svd made unusable frames: the denoiser gave NaN"):
        gathered(session.make(picture, quick))
    hook.remove()

    assert np.array_equal(gathered(session.make(picture, quick)).frames, before)


def test_too_small_a_budget_is_refused_before_anything_loads(
    session: Session, picture: Any, quick: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "load", lambda *_: pytest.fail("loaded"))
    least = budget_for(session, quick, "group-offload")

    with pytest.raises(InvalidRequest) as refused:
        gathered(session.make(picture, quick, budget=least - 1))

    assert refused.value.field == "vram_budget"
    assert f"{-(-least // 2**20)}MiB" in refused.value.hint


def test_loading_is_reported_once_and_timed(
    session: Session, picture: Any, quick: Sampling
) -> None:
    stages: list[str] = []

    first = gathered(session.make(picture, quick, report=lambda stage, *_: stages.append(stage)))
    second = gathered(session.make(picture, quick, report=lambda stage, *_: stages.append(stage)))

    assert stages.count("load") == 1
    assert first.load_s > 10 * second.load_s


@pytest.mark.cuda
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_on_the_gpu_every_placement_gives_the_same_frames(
    tiny_models: Path, picture: Any, quick: Sampling, placement: Placement
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    session = Session(resolve("tiny-svd", tiny_models), "cuda")
    resident = gathered(session.make(picture, quick))
    budget = predict(placement, sizes_of(session.checkpoint), quick, itemsize=2) + GPU_OVERHEAD

    made = gathered(session.make(picture, quick, budget=budget))
    session.close()

    assert made.memory.plan == placement
    assert (made.memory.measured_peak_bytes or 0) > 0
    assert np.array_equal(made.frames, resident.frames)
