"""What a batch's jobs add up to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from svd_local.batch.report.entry import Entry
from svd_local.batch.report.figures import Figures, Tally

NIGHT = datetime(2026, 11, 24, 22, tzinfo=UTC)


def entry(began: float | None = 0, ended: float | None = 10, **fields) -> Entry:
    def at(second: float | None) -> str | None:
        return None if second is None else (NIGHT + timedelta(seconds=second)).isoformat()

    values = {
        "row": 2,
        "index": 0,
        "key": "0" * 64,
        "state": "done",
        "attempt": 1,
        "worker": "a",
        "started_at": at(began),
        "finished_at": at(ended),
        "reason": None,
        "problem": None,
        "title": "t",
        "prompt": None,
        "pictures": [],
        "video": True,
        "kind": "generated",
        "tier": "local",
        "checkpoint": "svd-xt",
        "speed": "exact",
        "device": "cuda",
        "elapsed_s": 10.0,
        "duration_s": 3.5,
        "bytes": 1000,
        "timings": {
            "encode_image_s": 1.0,
            "denoise_s": 6.0,
            "decode_s": 1.0,
            "load_s": None,
            "waited_s": 0.0,
            "turn_s": 8.0,
        },
    }
    return Entry(**{**values, **fields})


def figures(*entries: Entry) -> Figures:
    tally = Tally()
    for one in entries:
        tally.add(one)
    return tally.figures()


def failed(code: str = "out-of-memory", **fields) -> Entry:
    reason = {"code": code, "message": fields.pop("message", "m"), "hint": ""}
    return entry(
        **{"state": "failed", "video": False, "reason": reason, "problem": reason} | fields
    )


def test_nothing_adds_up_to_nothing():
    empty = figures()
    assert (empty.total, empty.videos, empty.seconds_median, empty.clips_per_hour) == (
        0,
        0,
        None,
        None,
    )
    assert empty.to_json()["counts"] == {
        "queued": 0,
        "running": 0,
        "done": 0,
        "failed": 0,
        "cancelled": 0,
    }
    assert empty.not_denoising_share is None


def test_a_worker_that_waits_between_clips_is_not_denoising():
    told = figures(entry(0, 10), entry(20, 30))
    assert (told.wall_s, told.working_s, told.worker_s, told.workers) == (30, 30, 30, 1)
    assert told.denoising_share == pytest.approx(12 / 30)
    assert told.not_denoising_share == pytest.approx(18 / 30)
    assert told.gpu_share == pytest.approx(16 / 30)
    assert told.clips_per_hour == pytest.approx(2 * 3600 / 30)


def test_two_workers_at_once_share_the_hour():
    told = figures(entry(0, 10), entry(0, 20, worker="b"))
    assert (told.wall_s, told.working_s, told.worker_s) == (20, 20, 30)
    assert told.clips_per_hour == pytest.approx(2 * 3600 / 20)
    assert told.denoising_share == pytest.approx(12 / 30)


def test_the_day_between_two_nights_is_no_work():
    day = 24 * 3600
    told = figures(entry(0, 10), entry(day, day + 10, worker="b"))
    assert (told.wall_s, told.working_s) == (day + 10, 20)


def test_what_was_found_took_no_time_here():
    told = figures(entry(0, 10), entry(10, 10.1, cached=True, elapsed_s=99.0))
    assert (told.videos, told.made, told.cached) == (2, 1, 1)
    assert (told.seconds_median, told.timed) == (10.0, 1)
    assert told.phases["denoise_s"] == 6.0


def test_seconds_of_a_video_do_not_count_the_wait_for_the_other_lane():
    timings = {"denoise_s": 6.0, "waited_s": 7.0, "turn_s": 8.0, "load_s": 0.5}
    told = figures(entry(elapsed_s=17.0, timings=timings))
    assert (told.seconds_median, told.seconds_p95) == (10.0, 10.0)
    (group,) = told.groups
    assert (group["warm_median"], group["turn_median"], group["load_median"]) == (9.5, 7.5, 0.5)


def test_a_dead_workers_end_is_not_known():
    told = figures(entry(0, 10), failed("worker-lost", began=10, ended=9000, worker="b"))
    assert (told.working_s, told.workers) == (10, 1)


def test_seconds_by_tier_checkpoint_and_speed():
    stills = {
        "tier": "image-sequence",
        "checkpoint": None,
        "speed": None,
        "kind": "animated-stills",
    }
    slow = [entry(elapsed_s=float(seconds)) for seconds in range(1, 101)]
    told = figures(*slow, entry(elapsed_s=2.0, speed="fp8"), entry(elapsed_s=0.5, **stills))
    groups = {(one["tier"], one["speed"]): one for one in told.groups}
    assert groups[("local", "exact")]["seconds_p95"] == 95.0
    assert groups[("local", "exact")]["seconds_median"] == 50.5
    assert groups[("local", "fp8")]["clips"] == 1
    assert groups[("image-sequence", None)]["checkpoint"] is None
    assert told.by_kind == {"animated-stills": 1, "generated": 101}


def test_a_clip_of_the_cpu_uses_no_gpu():
    told = figures(entry(device="cpu"))
    assert told.gpu_share is None
    assert told.denoising_share == pytest.approx(0.6)


def test_what_cost_videos_comes_before_what_is_frequent():
    looks = {"code": "quality-check", "message": "m", "hint": ""}
    told = figures(
        *(entry(problem=looks) for _ in range(5)),
        failed("media-failed"),
        failed(message="m"),
        failed(message="other"),
    )
    assert [(one.code, one.jobs, one.alike) for one in told.problems] == [
        ("out-of-memory", 2, False),
        ("media-failed", 1, True),
        ("quality-check", 5, True),
    ]
    assert told.troubled == 8


def test_placeholders_and_lost_files_count_as_no_video():
    gone = {"code": "file-gone", "message": "m", "hint": ""}
    told = figures(
        entry(),
        entry(video=False, problem=gone),
        entry(video=False, kind="placeholder", problem=gone),
    )
    assert (told.videos, told.made, told.counts["done"]) == (1, 1, 3)
    assert told.by_kind == {"generated": 1}


def test_notes_about_videos():
    told = figures(
        entry(warnings=["w"], attempt=2),
        entry(corrections=[{}], synthetic=True),
        entry(
            attempts=[{"tier": "local", "outcome": "unavailable"}, {"tier": "x", "outcome": "ok"}]
        ),
    )
    counted = (told.warned, told.corrected, told.synthetic, told.fell_back, told.retried)
    assert counted == (1, 1, 1, 1, 1)
