"""Frames that the local tier hands out while it decodes: read to the end, void, or left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from svd_local import VideoGenerator
from svd_local.engine.fused.decoder import FusedDecoder
from svd_local.errors import Cancelled, MediaFailed
from svd_local.keyframe.types import Keyframe
from svd_local.media import encode
from svd_local.media.probe import probe
from svd_local.request import ClipRequest
from svd_local.settings import Settings
from svd_local.tiers.base import BeginAgain, Job, Monitor
from svd_local.tiers.local import LocalTier

ASKED: dict[str, Any] = {
    "prompt": "x",
    "checkpoint": "tiny-svd",
    "device": "cpu",
    "steps": 1,
    "size": (64, 64),
    "seed": 5,
}


@pytest.fixture(scope="module")
def tier(tiny_models: Path) -> Iterator[LocalTier]:
    """One for all: every test leaves it as it was, which most of them are about."""
    made = LocalTier(models_dir=tiny_models)
    yield made
    made.close()


def job_of(tier: LocalTier, **options: Any) -> Job:
    request = ClipRequest(**ASKED)
    plan = tier.plan(request)
    image = Image.linear_gradient("L").resize(plan.size).convert("RGB")
    return Job(request, plan, (Keyframe(image, "0" * 64, "picture"),), Monitor(**options))


@pytest.fixture(scope="module")
def right(tier: LocalTier) -> np.ndarray[Any, Any]:
    return np.concatenate(list(tier.generate(job_of(tier)).chunks))


@pytest.fixture
def out_of_memory_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has the next decode run out of memory after a few frames, so that they are void."""

    def arm() -> None:
        decode, left = FusedDecoder.pictures, 1

        def pictures(decoder: FusedDecoder, latents: torch.Tensor) -> Iterator[torch.Tensor]:
            nonlocal left
            for number, picture in enumerate(decode(decoder, latents)):
                if number == 5 and left:
                    left -= 1
                    raise torch.OutOfMemoryError("injected")
                yield picture

        monkeypatch.setattr(FusedDecoder, "pictures", pictures)

    return arm


def test_it_returns_with_the_first_frame_and_decodes_while_it_is_read(
    tier: LocalTier, right: np.ndarray[Any, Any]
) -> None:
    stages: list[tuple[str, int]] = []
    frames = tier.generate(
        job_of(tier, progress=lambda told: stages.append((told.stage, told.done)))
    )
    assert stages[-1] == ("decode", 1)
    with pytest.raises(RuntimeError, match="read to the end"):
        frames.ended()
    chunks = list(frames.chunks)
    assert stages[-1] == ("decode", 14)
    assert np.array_equal(np.concatenate(chunks), right)
    ending = frames.ended()
    assert ending.memory is not None
    assert min(ending.timings.denoise_s or 0, ending.timings.decode_s or 0) > 0


def test_frames_that_are_void_are_followed_by_others(
    tier: LocalTier, right: np.ndarray[Any, Any], out_of_memory_once: Callable[[], None]
) -> None:
    out_of_memory_once()
    frames, void = tier.generate(job_of(tier)), 0
    with pytest.raises(BeginAgain) as again:
        for void, _ in enumerate(frames.chunks, 1):  # noqa: B007
            pass
    others = again.value.frames
    made = np.concatenate(list(others.chunks))
    assert 0 < void < 14
    assert (np.abs(made.astype(int) - right) <= 1).mean() >= 0.999
    assert others.ended().warnings == ("out of memory with resident",)
    assert others.ran == frames.ran


@pytest.mark.parametrize("how", ["closed", "asked again", "cancelled"])
def test_a_reader_that_stops_leaves_the_tier_as_new(
    tier: LocalTier, right: np.ndarray[Any, Any], how: str
) -> None:
    stop = threading.Event()
    frames = tier.generate(job_of(tier, cancelled=stop.is_set))
    reel: Any = frames.chunks
    next(reel)
    if how == "closed":
        reel.close()
    elif how == "cancelled":
        stop.set()
        with pytest.raises(Cancelled):
            next(reel)
    again = np.concatenate(list(tier.generate(job_of(tier)).chunks))
    assert np.array_equal(again, right)
    with pytest.raises(RuntimeError, match="closed before their end"):
        next(reel)  # half a clip is never taken for a whole one


def test_another_thread_waits_for_the_last_frame_and_may_give_up(tier: LocalTier) -> None:
    frames = tier.generate(job_of(tier))
    stop, ended = threading.Event(), []

    def ask() -> None:
        with pytest.raises(Cancelled):
            tier.generate(job_of(tier, cancelled=stop.is_set))
        ended.append(True)

    other = threading.Thread(target=ask)
    other.start()
    stop.set()
    other.join(60)
    assert ended == [True]
    assert sum(len(chunk) for chunk in frames.chunks) == 14


class Recorded:
    """The encoder, which keeps what each call of it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[np.ndarray[Any, Any]]] = []
        self._encode_video = encode.encode_video
        monkeypatch.setattr(encode, "encode_video", self)

    def __call__(self, chunks: Iterator[Any], **options: Any) -> Any:
        seen: list[np.ndarray[Any, Any]] = []
        self.calls.append(seen)

        def kept() -> Iterator[Any]:
            for chunk in chunks:
                seen.append(chunk)
                yield chunk

        return self._encode_video(kept(), **options)


def test_only_the_frames_that_count_are_published(
    tier: LocalTier,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    out_of_memory_once: Callable[[], None],
) -> None:
    recorded = Recorded(monkeypatch)
    generator = VideoGenerator(settings, tiers=[tier])
    usual = generator.generate(**ASKED, tier="local")
    out_of_memory_once()
    clip = generator.generate(**ASKED, tier="local", no_cache=True)

    plain, void, counted = (sum(len(chunk) for chunk in call) for call in recorded.calls)
    assert (plain, counted) == (14, 14)
    assert void < 14
    apart = np.abs(
        np.concatenate(recorded.calls[0]).astype(int) - np.concatenate(recorded.calls[2])
    )
    assert (apart <= 1).mean() >= 0.999
    assert probe(clip.path).frames == 14
    assert clip.fingerprint == usual.fingerprint  # the other way to decode is exact
    assert "out of memory with resident" in clip.warnings
    assert clip.memory is not None
    assert usual.memory is not None
    assert clip.memory.plan != usual.memory.plan
    assert sorted(path.suffix for path in clip.path.parent.iterdir()) == [
        *[".jpg"] * 2,
        *[".mp4"] * 2,
    ]


def test_an_encoder_that_fails_mid_decode_stops_the_gpu_and_leaves_the_tier_as_new(
    tier: LocalTier,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    nothing_left: Path,
    right: np.ndarray[Any, Any],
) -> None:
    failed, decoded = threading.Event(), []

    def fail(chunks: Iterator[Any], **_: Any) -> None:
        next(chunks)
        failed.set()
        raise MediaFailed("injected", hint="")

    decode = FusedDecoder.pictures

    def slowly(decoder: FusedDecoder, latents: torch.Tensor) -> Iterator[torch.Tensor]:
        for number, picture in enumerate(decode(decoder, latents)):
            if number == 4:
                assert failed.wait(60)
            decoded.append(number)
            yield picture

    with monkeypatch.context() as patched:
        patched.setattr(encode, "encode_video", fail)
        patched.setattr(FusedDecoder, "pictures", slowly)
        with pytest.raises(MediaFailed, match="injected"):
            VideoGenerator(settings, tiers=[tier]).generate(**ASKED, tier="local")

    assert len(decoded) < 14
    assert np.array_equal(np.concatenate(list(tier.generate(job_of(tier)).chunks)), right)
