"""Frames that were handed out and turn out to be void: the clip begins again, or was none."""

from __future__ import annotations

import dataclasses
import gc
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from svd_local.engine.checkpoints import resolve
from svd_local.engine.fused.decoder import FusedDecoder
from svd_local.engine.loading import FP16
from svd_local.engine.session import Session
from svd_local.engine.streams import drained
from svd_local.engine.takes import Gathered, Take, gathered
from svd_local.engine.values import Sampling
from svd_local.errors import BadOutput, OutOfMemory

Trouble = Callable[[int, torch.Tensor], torch.Tensor]


@pytest.fixture
def quick(quick: Sampling) -> Sampling:
    return dataclasses.replace(quick, steps=1)


@pytest.fixture(scope="module")
def session(tiny_models: Path) -> Iterator[Session]:
    made = Session(resolve("tiny-svd", tiny_models), "cpu")
    yield made
    made.close()


@pytest.fixture(scope="module")
def half(tiny_models: Path) -> Iterator[Session]:
    made = Session(resolve("tiny-svd", tiny_models), "cpu", FP16)
    yield made
    made.close()


@pytest.fixture
def right(session: Session, picture: Any, quick: Sampling) -> Gathered:
    """The clip as it should be, made once."""
    if not _RIGHT:
        _RIGHT.append(gathered(session.make(picture, quick, engine="fused")))
    return _RIGHT[0]


_RIGHT: list[Gathered] = []


@pytest.fixture
def troubled(monkeypatch: pytest.MonkeyPatch) -> Callable[[Trouble], None]:
    """Has every picture of the fused decoder pass through a function, with its number."""
    decode = FusedDecoder.pictures

    def install(trouble: Trouble) -> None:
        def pictures(decoder: FusedDecoder, latents: torch.Tensor) -> Iterator[torch.Tensor]:
            for number, picture in enumerate(decode(decoder, latents)):
                yield trouble(number, picture)

        monkeypatch.setattr(FusedDecoder, "pictures", pictures)

    return install


def nan_late(number: int, picture: torch.Tensor) -> torch.Tensor:
    """The last frame of two, in half precision only."""
    return picture * torch.nan if number == 1 and picture.dtype == torch.float16 else picture


def black(_number: int, picture: torch.Tensor) -> torch.Tensor:
    return torch.full_like(picture, -1) if picture.dtype == torch.float16 else picture


@pytest.mark.parametrize(
    ("trouble", "before", "said"),
    [(nan_late, 1, "the decoder gave NaN"), (black, 2, "every frame is black")],
    ids=["NaN", "black"],
)
def test_rubbish_found_late_voids_the_take_and_another_follows(
    session: Session,
    half: Session,
    picture: Any,
    quick: Sampling,
    troubled: Callable[[Trouble], None],
    trouble: Trouble,
    before: int,
    said: str,
) -> None:
    quick = dataclasses.replace(quick, frames=2)
    right = gathered(session.make(picture, quick, engine="fused"))
    troubled(trouble)

    items, made = drained(half.make(picture, quick, engine="fused"))

    kinds = [item.precision if isinstance(item, Take) else "frame" for item in items]
    assert kinds == ["float16", *["frame"] * before, "float32", *["frame"] * 2]
    assert made.precision == "float32"
    assert made.notes == (f"{said} in float16; made again in float32",)
    frames = np.concatenate([item for item in items[-2:] if not isinstance(item, Take)])
    assert np.array_equal(frames, right.frames)


@pytest.mark.parametrize("value", [torch.nan, -1.0], ids=["NaN", "black"])
def test_where_nothing_is_safer_it_was_no_clip(
    session: Session,
    picture: Any,
    quick: Sampling,
    right: Gathered,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
) -> None:
    with monkeypatch.context() as patched:
        decode = FusedDecoder.pictures

        def pictures(decoder: FusedDecoder, latents: torch.Tensor) -> Iterator[torch.Tensor]:
            for number, made in enumerate(decode(decoder, latents)):
                yield torch.full_like(made, value) if number or value == -1 else made

        patched.setattr(FusedDecoder, "pictures", pictures)
        stream = session.make(picture, quick, engine="fused")
        assert isinstance(next(stream), Take)
        with pytest.raises(BadOutput, match="tiny-svd made unusable frames"):
            drained(stream)

    after = gathered(session.make(picture, quick, engine="fused"))
    assert np.array_equal(after.frames, right.frames)


def test_memory_that_runs_out_between_frames_leads_to_the_next_way(
    session: Session,
    picture: Any,
    quick: Sampling,
    right: Gathered,
    troubled: Callable[[Trouble], None],
) -> None:
    left = 1

    def run_out(number: int, made: torch.Tensor) -> torch.Tensor:
        nonlocal left
        if number == 2 and left:
            left -= 1
            raise torch.OutOfMemoryError("injected")
        return made

    troubled(run_out)
    items, made = drained(session.make(picture, quick, engine="fused"))

    kinds = ["take" if isinstance(item, Take) else "frame" for item in items]
    assert kinds == ["take", "frame", "take", *["frame"] * 3]
    assert made.notes == ("out of memory with resident",)
    assert made.memory.plan != right.memory.plan
    frames = np.concatenate([item for item in items[3:] if not isinstance(item, Take)])
    assert (np.abs(frames.astype(int) - right.frames) <= 1).mean() >= 0.999


def test_memory_that_always_runs_out_between_frames_is_said(
    session: Session, picture: Any, quick: Sampling, troubled: Callable[[Trouble], None]
) -> None:
    def run_out(number: int, made: torch.Tensor) -> torch.Tensor:
        if number == 2:
            raise torch.OutOfMemoryError("injected")
        return made

    troubled(run_out)
    with pytest.raises(OutOfMemory, match="do not fit in memory"):
        drained(session.make(picture, quick, engine="fused"))


@pytest.mark.parametrize("how", ["closed", "dropped", "left open", "session closed", "cancelled"])
def test_a_reader_that_stops_leaves_the_session_as_new(
    session: Session, picture: Any, quick: Sampling, right: Gathered, how: str
) -> None:
    stopped = False

    class Stopped(Exception):
        pass

    def check() -> None:
        if stopped:
            raise Stopped

    stream = session.make(picture, quick, engine="fused", check=check)
    assert isinstance(next(stream), Take)
    assert isinstance(next(stream), np.ndarray)
    stopped = True
    if how == "closed":
        stream.close()
    elif how == "dropped":
        del stream
        gc.collect()
    elif how == "session closed":
        session.close()
    elif how == "cancelled":
        with pytest.raises(Stopped):
            next(stream)
    after = gathered(session.make(picture, quick, engine="fused"))

    assert np.array_equal(after.frames, right.frames)
    if how == "left open":
        assert list(stream) == []  # it came to its end without a clip


def test_between_frames_nothing_is_switched_for_the_reader(
    session: Session, picture: Any, quick: Sampling
) -> None:
    """Inference mode, the libraries' silence and the counting of bytes are the engine's own."""
    level, filters = logging.getLogger("diffusers").level, list(warnings.filters)
    stream = session.make(picture, quick, engine="fused")
    next(stream)
    alive = torch.ones(2, requires_grad=True) * 2

    assert not torch.is_inference_mode_enabled()
    assert alive.requires_grad
    assert logging.getLogger("diffusers").level == level
    assert list(warnings.filters) == filters
    big = torch.zeros(50_000_000, dtype=torch.uint8)
    _, made = drained(stream)
    assert (made.memory.measured_peak_bytes or 0) < len(big)


def test_the_reader_is_not_timed(
    session: Session, picture: Any, quick: Sampling, right: Gathered
) -> None:
    stream = session.make(picture, quick, engine="fused")
    next(stream)
    time.sleep(0.5)
    next(stream)
    time.sleep(0.5)
    _, made = drained(stream)
    assert made.phases.decode_s < right.phases.decode_s + 0.9


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_a_clip_in_one_piece_is_the_same_as_its_parts(
    session: Session, picture: Any, quick: Sampling, engine: Any
) -> None:
    items, made = drained(session.make(picture, quick, engine=engine))
    take, *frames = items
    assert take == Take(engine, "float32", None if engine == "fused" else 3)
    assert len(frames) == (3 if engine == "fused" else 1)
    clip = gathered(session.make(picture, quick, engine=engine))
    parts = [frame for frame in frames if not isinstance(frame, Take)]
    assert np.array_equal(np.concatenate(parts), clip.frames)
    assert (clip.engine, clip.memory.plan) == (made.engine, made.memory.plan)
