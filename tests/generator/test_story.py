"""The story of one clip: what is published, cached, refused and cleaned up."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import svd_local
from svd_local import VideoGenerator
from svd_local.errors import (
    Cancelled,
    ImageRejected,
    InvalidRequest,
    StorageFailed,
    TierFailed,
    TierUnavailable,
)
from svd_local.media.probe import probe, read_comment
from svd_local.result import Clip, Progress
from svd_local.settings import Settings
from svd_local.testing import FakeTier
from svd_local.tiers.base import Frames, Job
from svd_local.tiers.image_sequence import ImageSequenceTier


class _Counting(FakeTier):
    """A fake tier that counts how often it really made frames."""

    def __init__(self, failures: str = "", seconds: float = 0.0) -> None:
        super().__init__(enabled=True, seconds=seconds, failures=failures)
        self.made = 0

    def generate(self, job: Job) -> Frames:
        self.made += 1
        return super().generate(job)


@pytest.fixture
def tier() -> _Counting:
    return _Counting()


@pytest.fixture
def generator(settings: Settings, tier: _Counting) -> VideoGenerator:
    return VideoGenerator(settings, tiers=[tier])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Image.radial_gradient("L").convert("RGB").resize((320, 180)).save(path)
    return path


def _fake(generator: VideoGenerator, **fields: Any) -> Clip:
    return generator.generate(**{"prompt": "a lesson", "tier": "fake", "seed": 1} | fields)


def test_a_clip_is_a_checked_file_with_poster_comment_and_row(
    generator: VideoGenerator, settings: Settings
) -> None:
    clip = _fake(generator, title="Lesson 3: Ünïcödé")
    info = probe(clip.path)
    assert (info.frames, info.width, info.height) == (clip.frames, clip.width, clip.height)
    assert clip.path.parent == settings.videos_dir.absolute()
    assert clip.path.name.startswith("synthetic_video_")
    assert clip.files.poster is not None
    with Image.open(clip.files.poster) as poster:
        assert poster.size == (clip.width, clip.height)
    comment = json.loads(read_comment(clip.path) or "")
    assert comment["parameters"] == clip.parameters
    assert comment["fingerprint"] == clip.fingerprint
    assert clip.id
    assert clip.quality is not None
    assert [a.outcome for a in clip.attempts] == ["ok"]
    assert not list(clip.path.parent.glob(".*"))


def test_what_is_prepared_counts_within_the_tiers_deadline(
    generator: VideoGenerator, tier: _Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    import svd_local.keyframe as keyframe

    make, spent = keyframe.make_keyframes, []

    def slow(*args: Any, **named: Any) -> Any:
        time.sleep(0.3)
        return make(*args, **named)

    def generate(job: Job) -> Frames:
        spent.append(job.plan.spent_s)
        raise TierFailed("enough")

    monkeypatch.setattr(keyframe, "make_keyframes", slow)
    monkeypatch.setattr(tier, "generate", generate)
    begun = time.monotonic()
    with pytest.raises(TierFailed):
        _fake(generator)
    assert 0.3 <= spent[0] <= time.monotonic() - begun


def test_the_document_has_every_key_of_the_contract(generator: VideoGenerator) -> None:
    document = _fake(generator).to_json()
    assert set(document) >= {
        *("success", "kind", "synthetic", "path", "tier", "checkpoint", "engine", "device"),
        *("speed", "frames", "fps", "width", "height", "duration_s", "seed", "elapsed_s"),
        *("cached", "parameters", "corrections", "warnings", "attempts", "memory", "timings"),
        *("quality", "fingerprint", "files"),
    }
    assert json.loads(json.dumps(document)) == document
    assert Path(document["path"]).is_absolute()


def test_the_same_again_comes_from_the_catalog(generator: VideoGenerator, tier: _Counting) -> None:
    first, second = _fake(generator), _fake(generator)
    assert (first.cached, second.cached, tier.made) == (False, True, 1)
    assert second.path == first.path
    assert second.fingerprint == first.fingerprint
    assert second.parameters == first.parameters


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"title": "T"}, {"steps": 3}, {"resolution": "720p"}, {"prompt": "x"}]
)
def test_anything_that_changes_pixels_is_made_anew(
    generator: VideoGenerator, tier: _Counting, change: dict[str, Any]
) -> None:
    _fake(generator)
    assert not _fake(generator, **change).cached
    assert tier.made == 2


def test_no_seed_is_never_a_hit_and_the_drawn_one_is_recorded(
    generator: VideoGenerator, tier: _Counting
) -> None:
    first, second = _fake(generator, seed=None), _fake(generator, seed=None)
    assert tier.made == 2
    assert first.seed is not None
    assert first.seed != second.seed
    again = _fake(generator, seed=first.seed)
    assert again.cached
    assert again.path == first.path


def test_no_cache_makes_it_anew(generator: VideoGenerator, tier: _Counting) -> None:
    assert _fake(generator).path != _fake(generator, no_cache=True).path
    assert tier.made == 2


def test_a_hit_outside_out_is_brought_there(generator: VideoGenerator, tmp_path: Path) -> None:
    first = _fake(generator)
    second = _fake(generator, out=tmp_path / "elsewhere")
    assert second.cached
    assert second.path.parent == tmp_path / "elsewhere"
    assert second.path.read_bytes() == first.path.read_bytes()


def test_a_lost_file_is_no_hit(generator: VideoGenerator, tier: _Counting) -> None:
    _fake(generator).path.unlink()
    assert not _fake(generator).cached
    assert tier.made == 2


def test_a_changed_picture_of_the_same_name_is_no_hit(
    generator: VideoGenerator, picture: Path
) -> None:
    _fake(generator, image=picture)
    assert _fake(generator, image=picture).cached
    Image.new("RGB", (320, 180), "teal").save(picture)
    assert not _fake(generator, image=picture).cached


def test_a_changed_logo_of_the_same_name_is_no_hit(
    generator: VideoGenerator, picture: Path
) -> None:
    _fake(generator, logo=picture)
    assert _fake(generator, logo=picture).cached
    Image.new("RGB", (320, 180), "teal").save(picture)
    assert not _fake(generator, logo=picture).cached


def test_auto_falls_through_and_says_why(settings: Settings) -> None:
    class Broken(FakeTier):
        id = "better"

    ladder = [Broken(enabled=False), ImageSequenceTier()]
    clip = VideoGenerator(settings, tiers=ladder).generate(prompt="a lesson", duration=0.5)
    assert clip.kind == "animated-stills"
    assert [(a.tier, a.outcome) for a in clip.attempts] == [
        ("better", "unavailable"),
        ("image-sequence", "ok"),
    ]
    assert clip.files.manifest is not None
    manifest = json.loads(clip.files.manifest.read_text())
    assert manifest["clip"]["fingerprint"] == clip.fingerprint
    assert clip.files.manifest.stem == clip.path.stem


def test_a_named_checkpoint_is_not_replaced_by_what_needs_none(
    settings: Settings, nothing_left: Path
) -> None:
    class Broken(FakeTier):
        id = "better"

    ladder = [Broken(enabled=False), ImageSequenceTier()]
    with pytest.raises(TierUnavailable) as caught:
        VideoGenerator(settings, tiers=ladder).generate(prompt="a lesson", checkpoint="svd-xt")
    assert [a.tier for a in caught.value.attempts] == ["better"]


def test_auto_never_takes_the_fake_tier(settings: Settings, tier: _Counting) -> None:
    clip = VideoGenerator(settings, tiers=[tier]).generate(prompt="a lesson")
    assert clip.kind == "placeholder"
    assert tier.made == 0


def test_a_named_busy_tier_leaves_a_placeholder_and_no_row(settings: Settings) -> None:
    generator = VideoGenerator(settings, tiers=[_Counting(failures="busy")])
    clip = _fake(generator)
    assert (clip.kind, clip.exit_status, clip.is_video) == ("placeholder", 4, False)
    document = json.loads(clip.path.read_text())
    assert document["retry"]["after_s"] == 30.0
    assert document["attempts"][0]["tier"] == "fake"
    assert list(settings.videos_dir.glob("*.mp4")) == []
    assert not _fake(generator).cached


def test_a_failing_tier_stops_with_its_error_and_nothing_is_left(
    settings: Settings, nothing_left: Path
) -> None:
    with pytest.raises(TierFailed) as caught:
        _fake(VideoGenerator(settings, tiers=[_Counting(failures="failed")]))
    assert [(a.tier, a.outcome) for a in caught.value.attempts] == [("fake", "failed")]


def test_an_unavailable_named_tier_is_refused_before_anything_is_written(
    settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(TierUnavailable):
        _fake(VideoGenerator(settings, tiers=[FakeTier(enabled=False)]))
    assert not settings.media_dir.exists()


def test_a_tier_this_generator_lacks_is_refused(generator: VideoGenerator) -> None:
    with pytest.raises(InvalidRequest) as caught:
        generator.generate(prompt="a lesson", tier="webui")
    assert caught.value.field == "tier"


@pytest.mark.parametrize("kind", ["text", "truncated", "missing", "huge"])
def test_bad_pictures_are_refused_and_nothing_is_written(
    generator: VideoGenerator, settings: Settings, picture: Path, kind: str
) -> None:
    bad = picture.with_suffix(".png")
    if kind == "text":
        bad.write_text("no picture")
    elif kind == "truncated":
        bad.write_bytes(picture.read_bytes()[:900])
    elif kind == "huge":
        header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (20_000).to_bytes(4) * 2
        bad.write_bytes(header + b"\x08\x02\x00\x00\x00" + bytes(4))
    with pytest.raises(ImageRejected) as caught:
        _fake(generator, image=bad)
    assert caught.value.hint
    assert not settings.videos_dir.exists()


def test_an_output_folder_that_cannot_be_written_is_refused_before_work(
    generator: VideoGenerator, tier: _Counting, picture: Path
) -> None:
    with pytest.raises(StorageFailed) as caught:
        _fake(generator, out=picture / "below-a-file")
    assert caught.value.field == "out"
    assert tier.made == 0


def test_a_catalog_that_cannot_be_written_is_found_out_before_work(
    settings: Settings, tier: _Counting, picture: Path
) -> None:
    nowhere = settings.model_copy(update={"database_url": f"sqlite:///{picture}/c.sqlite3"})
    with pytest.raises(StorageFailed, match="photo"):
        _fake(VideoGenerator(nowhere, tiers=[tier]))
    assert tier.made == 0


def test_cancelling_leaves_nothing(generator: VideoGenerator, nothing_left: Path) -> None:
    seen: list[Progress] = []
    with pytest.raises(Cancelled):
        generator.generate(
            prompt="a lesson",
            tier="fake",
            progress=seen.append,
            cancelled=lambda: len(seen) > 5,
        )
    assert seen[0].tier == "fake"


def test_cancelling_while_frames_are_encoded_leaves_nothing(
    generator: VideoGenerator, nothing_left: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "encode-video" and progress.done > 3:
            raise KeyError("enough")

    with pytest.raises(Cancelled, match="enough"):
        generator.generate(prompt="a lesson", tier="fake", progress=stop)


def test_progress_tells_every_stage_in_order(generator: VideoGenerator) -> None:
    seen: list[Progress] = []
    generator.generate(prompt="a lesson", tier="fake", steps=2, progress=seen.append)
    stages = list(dict.fromkeys(p.stage for p in seen))
    assert stages == ["keyframe", "denoise", "encode-video", "publish"]
    last = [p for p in seen if p.stage == "encode-video"][-1]
    assert last.done == last.total == 14
    times = [p.elapsed_s for p in seen]
    assert times == sorted(times)


def test_callers_queue_and_all_are_served(settings: Settings) -> None:
    busy = threading.Lock()

    class Alone(FakeTier):
        def generate(self, job: Job) -> Frames:
            assert busy.acquire(blocking=False), "two clips at once"
            try:
                return super().generate(job)
            finally:
                busy.release()

    generator = VideoGenerator(settings, tiers=[Alone(enabled=True, seconds=0.05)])
    clips: list[Clip] = []
    callers = [
        threading.Thread(
            target=lambda n=n: clips.append(_fake(generator, seed=n, steps=1))  # type: ignore[misc]
        )
        for n in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert sorted(clip.seed or 0 for clip in clips) == [0, 1, 2, 3]
    assert len({clip.path for clip in clips}) == 4


def test_asyncio_gets_the_clip_and_can_cancel(settings: Settings, nothing_left: Path) -> None:
    slow = VideoGenerator(settings, tiers=[FakeTier(enabled=True, seconds=30)])

    async def impatient() -> None:
        task = asyncio.create_task(slow.agenerate(prompt="a lesson", tier="fake"))
        await asyncio.sleep(0.2)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(impatient())


def test_a_request_or_its_fields_but_not_both(generator: VideoGenerator) -> None:
    with pytest.raises(InvalidRequest):
        generator.generate(svd_local.ClipRequest(prompt="a"), prompt="b")


def test_the_module_level_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
    clip = svd_local.generate(prompt="a lesson", tier="image-sequence", duration=0.5)
    assert clip.path.is_relative_to(tmp_path / "media")
    assert probe(clip.path).frames == 12
