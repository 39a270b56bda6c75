"""What runs beside what: one clip on the GPU, the one before it at the encoder, the next one prepared.

Nothing here is left to the clock: every wait is for an event, and what a test asserts would leave an
event unset, and the test failing after ``PATIENCE_S``, were it not so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from svd_local import VideoGenerator
from svd_local.errors import Cancelled, MediaFailed, TierFailed
from svd_local.generator import sources, story
from svd_local.media import encode
from svd_local.media.ffmpeg import OTHER_HINT
from svd_local.media.probe import probe
from svd_local.request import ClipRequest
from svd_local.result import Clip, Memory, Progress, Timings
from svd_local.settings import Settings
from svd_local.testing import FakeTier
from svd_local.tiers.base import BeginAgain, Ending, Frames, Job, Monitor, Plan

PATIENCE_S = 60


class Watched(FakeTier):
    """A fake tier whose clips, known by their seeds, tell when they begin and wait to be let on."""

    def __init__(self) -> None:
        super().__init__(enabled=True)
        self.began = {seed: threading.Event() for seed in range(9)}
        self.order: list[int] = []
        self.may_go_on = {seed: threading.Event() for seed in range(9)}
        for event in self.may_go_on.values():
            event.set()

    def generate(self, job: Job) -> Frames:
        seed = int(job.plan.parameters["seed"])
        self.order.append(seed)
        self.began[seed].set()
        while not self.may_go_on[seed].wait(0.01):
            job.monitor.check()
        return super().generate(job)


@pytest.fixture
def tier() -> Watched:
    return Watched()


@pytest.fixture
def generator(settings: Settings, tier: Watched) -> VideoGenerator:
    return VideoGenerator(settings, tiers=[tier])


class Encoder:
    """The real one, which first waits to be let on, after it was given every frame of a clip."""

    def __init__(self, encode_video: Callable[..., Any]) -> None:
        self._encode_video = encode_video
        self.may_finish = threading.Event()
        self.has_frames = threading.Semaphore(0)
        self.at_once = 0

    def __call__(self, chunks: Iterator[Any], **options: Any) -> Any:
        self.at_once += 1
        taken = list(chunks)
        self.has_frames.release()
        while not self.may_finish.wait(0.01):
            options["check"]()
        done = self._encode_video(iter(taken), **options)
        self.at_once -= 1
        return done


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    slow = Encoder(encode.encode_video)
    monkeypatch.setattr(encode, "encode_video", slow)
    return slow


class Caller(threading.Thread):
    """Asks for one clip; its result or its error is kept."""

    def __init__(self, generator: VideoGenerator, seed: int, **fields: Any) -> None:
        super().__init__(daemon=True)
        self._generator = generator
        self._asked = {"prompt": "a lesson", "tier": "fake", "steps": 1, "seed": seed, **fields}
        self.clip: Clip | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.clip = self._generator.generate(**self._asked)
        except Exception as error:
            self.error = error

    def ended(self) -> Clip:
        self.join(PATIENCE_S)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        assert self.clip is not None
        return self.clip


def in_line(generator: VideoGenerator, count: int) -> None:
    """Wait until so many callers stand in the line."""
    for _ in range(PATIENCE_S * 100):
        if len(generator._here._line) == count:
            return
        threading.Event().wait(0.01)
    pytest.fail(f"{len(generator._here._line)} in line, not {count}")


def test_the_next_clip_begins_before_the_last_one_is_encoded(
    generator: VideoGenerator, tier: Watched, encoder: Encoder
) -> None:
    first = Caller(generator, 1)
    assert encoder.has_frames.acquire(timeout=PATIENCE_S)
    second = Caller(generator, 2)
    assert tier.began[2].wait(PATIENCE_S)
    assert first.clip is None
    encoder.may_finish.set()

    clips = [first.ended(), second.ended()]

    assert [clip.seed for clip in clips] == [1, 2]
    assert [probe(clip.path).frames for clip in clips] == [14, 14]
    assert clips[0].path != clips[1].path
    alone = VideoGenerator(generator.settings, tiers=[tier])
    again = [alone.generate(prompt="a lesson", tier="fake", steps=1, seed=n) for n in (1, 2)]
    assert [clip.id for clip in again] == [clip.id for clip in clips]  # both are in the catalog


def test_the_machine_makes_one_clip_at_a_time_in_the_order_of_arrival(
    generator: VideoGenerator, tier: Watched
) -> None:
    tier.may_go_on[0].clear()
    callers = []
    for seed in range(5):
        callers.append(Caller(generator, seed))
        in_line(generator, seed + 1)
    assert tier.began[0].wait(PATIENCE_S)
    assert tier.order == [0]
    tier.may_go_on[0].set()
    assert [caller.ended().seed for caller in callers] == list(range(5))
    assert tier.order == list(range(5))


def test_the_next_keyframe_is_made_while_the_gpu_works(
    generator: VideoGenerator, tier: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    import svd_local.keyframe as room

    made, make_keyframes = threading.Semaphore(0), room.make_keyframes

    def watched(*arguments: Any, **options: Any) -> Any:
        try:
            return make_keyframes(*arguments, **options)
        finally:
            made.release()

    monkeypatch.setattr(room, "make_keyframes", watched)
    tier.may_go_on[1].clear()
    first = Caller(generator, 1)
    assert tier.began[1].wait(PATIENCE_S)
    assert made.acquire(timeout=PATIENCE_S)
    second = Caller(generator, 2)
    assert made.acquire(timeout=PATIENCE_S)  # and the first one still has the turn
    assert tier.order == [1]
    tier.may_go_on[1].set()
    assert (first.ended().seed, second.ended().seed) == (1, 2)


def test_a_picture_that_is_painted_takes_a_turn(
    generator: VideoGenerator, tier: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted = []

    def paint(_words: str, size: tuple[int, int]) -> Image.Image:
        assert len(tier.order) == len(painted)
        assert all(not began.is_set() or n in painted for n, began in tier.began.items())
        painted.append(len(painted) + 1)
        return Image.linear_gradient("L").resize(size).convert("RGB")

    gather = sources.gather

    def with_painter(*arguments: Any) -> Any:
        return replace(gather(*arguments), painter=paint)

    monkeypatch.setattr(story, "gather", with_painter)
    tier.may_go_on[1].clear()
    first = Caller(generator, 1)
    assert tier.began[1].wait(PATIENCE_S)
    second = Caller(generator, 2)
    in_line(generator, 2)
    assert painted == [1]
    tier.may_go_on[1].set()
    assert (first.ended().seed, second.ended().seed) == (1, 2)
    assert painted == [1, 2]


def test_so_many_clips_may_wait_for_the_encoder_and_no_more(
    generator: VideoGenerator, tier: Watched, encoder: Encoder
) -> None:
    callers = [Caller(generator, seed) for seed in range(5)]
    for _ in range(story._ENCODERS):
        assert encoder.has_frames.acquire(timeout=PATIENCE_S)
    # One more holds the turn, its frames not yet wanted; the others are not begun.
    for _ in range(PATIENCE_S * 100):
        if len(tier.order) == story._ENCODERS + 1:
            break
        threading.Event().wait(0.01)
    in_line(generator, 5 - story._ENCODERS)
    assert encoder.at_once == story._ENCODERS
    assert len(tier.order) == story._ENCODERS + 1
    encoder.may_finish.set()
    assert sorted(caller.ended().seed or 0 for caller in callers) == list(range(5))


def test_whoever_waits_for_a_turn_can_be_cancelled(
    generator: VideoGenerator, tier: Watched
) -> None:
    tier.may_go_on[1].clear()
    first = Caller(generator, 1)
    assert tier.began[1].wait(PATIENCE_S)
    stop = threading.Event()
    second = Caller(generator, 2, cancelled=stop.is_set)
    in_line(generator, 2)
    stop.set()
    with pytest.raises(Cancelled):
        second.ended()
    tier.may_go_on[1].set()
    assert first.ended().seed == 1
    assert tier.order == [1]


def test_whoever_waits_for_the_encoder_can_be_cancelled(
    generator: VideoGenerator, encoder: Encoder, nothing_left: Path
) -> None:
    stop = threading.Event()
    caller = Caller(generator, 1, cancelled=stop.is_set)
    assert encoder.has_frames.acquire(timeout=PATIENCE_S)
    stop.set()
    with pytest.raises(Cancelled):
        caller.ended()


def test_the_same_clip_asked_for_twice_at_once_is_made_once(
    generator: VideoGenerator, tier: Watched, encoder: Encoder
) -> None:
    first = Caller(generator, 1)
    assert encoder.has_frames.acquire(timeout=PATIENCE_S)
    same, other = Caller(generator, 1), Caller(generator, 2)
    assert tier.began[2].wait(PATIENCE_S)  # the one that waits for the same stands in nobody's way
    encoder.may_finish.set()
    clips = [caller.ended() for caller in (first, same, other)]
    assert [clip.cached for clip in clips] == [False, True, False]
    assert clips[0].path == clips[1].path
    assert tier.order == [1, 2]


def test_a_clip_that_fails_leaves_the_same_one_to_whoever_waits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_fail = threading.Event(), threading.Event()

    class OnceFailing(Watched):
        def generate(self, job: Job) -> Frames:
            if not self.order:
                self.order.append(0)
                asked.set()
                assert may_fail.wait(PATIENCE_S)
                raise TierFailed("injected")
            return super().generate(job)

    generator = VideoGenerator(settings, tiers=[OnceFailing()])
    first = Caller(generator, 1)
    assert asked.wait(PATIENCE_S)
    second = Caller(generator, 1)
    in_line(generator, 2)
    may_fail.set()
    with pytest.raises(TierFailed):
        first.ended()
    assert not second.ended().cached


def test_a_tier_on_another_machine_needs_no_turn_here(settings: Settings, tier: Watched) -> None:
    class Remote(Watched):
        id = "huggingface"

        def plan(self, request: ClipRequest, monitor: Monitor | None = None) -> Plan:
            return replace(super().plan(request, monitor), leaves_machine=True)

    remote = Remote()
    generator = VideoGenerator(settings, tiers=[tier, remote])
    tier.may_go_on[1].clear()
    remote.may_go_on[2].clear()
    here = Caller(generator, 1)
    assert tier.began[1].wait(PATIENCE_S)
    away = Caller(generator, 2, tier="huggingface")
    assert remote.began[2].wait(PATIENCE_S)
    another = Caller(generator, 3, tier="huggingface")
    assert not remote.began[3].wait(0.3)  # but one at a time there too
    tier.may_go_on[1].set()
    assert here.ended().seed == 1
    remote.may_go_on[2].set()
    assert (away.ended().seed, another.ended().seed) == (2, 3)


class Voiding(FakeTier):
    """Its frames turn out void when all but the last one were read, and others take their place."""

    def __init__(self, then: Exception | None = None) -> None:
        super().__init__(enabled=True)
        self.closed = 0
        self._then = then

    def generate(self, job: Job) -> Frames:
        tier, right = self, super().generate(job)
        good = iter(right.chunks)

        class Reel:
            def __init__(self) -> None:
                self.read = 0

            def __iter__(self) -> Reel:
                return self

            def __next__(self) -> Any:
                self.read += 1
                if self.read < right.count:
                    return np.zeros((1, right.height, right.width, 3), np.uint8)
                if self.read == right.count:
                    memory = Memory("small")
                    ending = Ending(memory, Timings(denoise_s=1.5), ("made again in float32",))
                    ran = {"precision": "float32"}
                    raise BeginAgain(replace(right, chunks=self, ran=ran, ended=lambda: ending))
                if tier._then is not None and self.read > right.count + 3:
                    raise tier._then
                return next(good)

            def close(self) -> None:
                tier.closed += 1

        return replace(right, chunks=Reel(), ran={"precision": "float16"})


def test_void_frames_are_never_published(settings: Settings, tier: Watched) -> None:
    usual = VideoGenerator(settings, tiers=[tier])
    voiding = Voiding()
    generator = VideoGenerator(settings, tiers=[voiding])
    asked: dict[str, Any] = {"prompt": "a lesson", "tier": "fake", "steps": 1, "seed": 1}

    clip = generator.generate(**asked)
    right = usual.generate(**asked, no_cache=True)

    assert probe(clip.path).frames == 14
    assert clip.quality is not None
    assert clip.quality == right.quality
    assert clip.files.poster is not None
    assert right.files.poster is not None
    assert clip.files.poster.read_bytes() == right.files.poster.read_bytes()
    # It is stored as what it is, and so no answer to the request as it was planned.
    assert clip.fingerprint != right.fingerprint
    assert clip.memory == Memory("small")
    assert clip.timings.denoise_s == 1.5
    assert clip.warnings[0] == "made again in float32"
    assert voiding.closed == 0
    assert not list(clip.path.parent.glob(".*"))


def test_nothing_is_left_where_the_other_frames_fail_too(
    settings: Settings, nothing_left: Path
) -> None:
    tier = Voiding(then=TierFailed("injected"))
    with pytest.raises(TierFailed, match="injected"):
        VideoGenerator(settings, tiers=[tier]).generate(
            prompt="a lesson", tier="fake", steps=1, seed=1
        )
    assert tier.closed >= 1


def test_an_encoder_that_fails_ends_the_making_of_frames(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, nothing_left: Path
) -> None:
    failed = threading.Event()

    def fail(chunks: Iterator[Any], **_: Any) -> None:
        next(chunks)
        failed.set()
        raise MediaFailed("injected", hint=OTHER_HINT)

    monkeypatch.setattr(encode, "encode_video", fail)
    made: list[int] = []

    class Endless(FakeTier):
        def generate(self, job: Job) -> Frames:
            frames = super().generate(job)

            def chunks() -> Iterator[Any]:
                try:
                    for number, chunk in enumerate(frames.chunks):
                        if number == 2:
                            assert failed.wait(PATIENCE_S)
                        made.append(number)
                        yield chunk
                finally:
                    made.append(-1)

            return replace(frames, chunks=chunks())

    generator = VideoGenerator(settings, tiers=[Endless(enabled=True)])
    with pytest.raises(MediaFailed, match="injected"):
        generator.generate(prompt="a lesson", tier="fake", steps=1, seed=1)
    assert made[-1] == -1
    assert len(made) < 14
    assert generator._encoders._free.acquire(blocking=False)
    assert len(generator._here._line) == 0


def test_progress_stays_in_the_callers_thread_and_in_order(generator: VideoGenerator) -> None:
    told: list[tuple[int, str]] = []
    generator.generate(
        prompt="a lesson",
        tier="fake",
        steps=1,
        seed=1,
        progress=lambda progress: told.append((threading.get_ident(), progress.stage)),
    )
    assert {thread for thread, _ in told} == {threading.get_ident()}
    stages = [stage for _, stage in told]
    assert stages.index("publish") == len(stages) - 1
    assert "denoise" not in stages[stages.index("encode-video") :]


def test_a_clip_that_waits_for_its_turn_says_so(generator: VideoGenerator, tier: Watched) -> None:
    tier.may_go_on[1].clear()
    first = Caller(generator, 1)
    assert tier.began[1].wait(PATIENCE_S)
    waits, stages = threading.Event(), []

    def told(progress: Progress) -> None:
        stages.append(progress.stage)
        if progress.stage == "wait":
            waits.set()

    second = Caller(generator, 2, progress=told)
    assert waits.wait(PATIENCE_S)
    tier.may_go_on[1].set()
    first.ended()
    second.ended()
    assert stages[:3] == ["keyframe", "wait", "denoise"]


def test_timings_are_of_work_and_not_of_waiting(
    settings: Settings, tier: Watched, encoder: Encoder
) -> None:
    generator = VideoGenerator(settings, tiers=[tier])
    tier.may_go_on[1].clear()
    encoder.may_finish.set()
    first = Caller(generator, 1)
    assert tier.began[1].wait(PATIENCE_S)
    second = Caller(generator, 2)
    in_line(generator, 2)
    threading.Event().wait(0.5)
    tier.may_go_on[1].set()
    first.ended()
    clip = second.ended()
    worked = clip.timings.to_json()
    waited, turn = worked.pop("waited_s"), worked.pop("turn_s")
    assert clip.elapsed_s > 0.5
    assert sum(value or 0 for value in worked.values()) < clip.elapsed_s - 0.4
    assert 0.4 < waited < clip.elapsed_s
    assert turn < clip.worked_s == pytest.approx(clip.elapsed_s - waited, abs=0.001)
    assert set(worked) == {
        *("load_s", "keyframe_s", "encode_image_s", "denoise_s", "decode_s", "encode_video_s"),
    }
