from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from helpers import batches
from helpers.night import Night, Tier
from servers.databases import on_either_server

from svd_local.batch import events
from svd_local.batch.events import Event
from svd_local.errors import InvalidRequest


@on_either_server
def test_every_job_is_made_once_under_its_name_and_told(night: Night) -> None:
    specs = [batches.spec(number) for number in range(4)]
    summary = night.run(specs)
    assert night.faults(specs) == []
    assert (summary.made, summary.cached, summary.exit_status) == (4, 0, 0)
    assert summary.batch.counts == {"done": 4}
    assert sorted(filter(None, night.tier.made)) == [f"lesson {n}" for n in range(4)]
    kinds = night.kinds()
    assert (kinds["Begun"], kinds["JobBegun"], kinds["JobDone"]) == (1, 4, 4)
    assert kinds["JobProgress"] > 8
    assert summary.clips_per_hour is not None
    document = summary.to_json()
    assert document["success"] is True
    assert document["batch"]["counts"]["done"] == 4


def test_the_same_again_makes_nothing(night: Night) -> None:
    specs = [batches.spec(number) for number in range(2)]
    night.run(specs)
    summary = night.run(specs)
    assert (summary.made, summary.clips_per_hour, summary.not_denoising) == (0, None, None)
    assert len(night.tier.made) == 2
    assert night.faults(specs) == []


def test_a_seed_is_drawn_once_and_every_try_makes_the_same_clip(night: Night) -> None:
    seeds = []
    night.tier = Tier("failed")
    night.tier.before = lambda job: seeds.append(job.plan.parameters["seed"])
    night.run([batches.spec(0, fields={"seed": None})])
    assert len(seeds) == 2
    assert seeds[0] == seeds[1]
    with night.catalog() as catalog:
        (clip,) = catalog.clips()
        assert clip.request["seed"] == seeds[0]


def test_what_the_catalog_has_is_linked_and_not_made(night: Night) -> None:
    night.run([batches.spec(0)])
    same = {"key": "f" * 64, "index": 1, "folder": "again", "name": "other"}
    specs = [batches.spec(0), batches.spec(0, **same)]
    summary = night.run(specs)
    assert (summary.made, summary.cached) == (0, 1)
    first, second = (night.root / "out" / name for name in ("lesson 0.mp4", "again/other.mp4"))
    assert second.samefile(first)
    anew = [*specs, batches.spec(0, key="e" * 64, index=2, name="anew", fields={"no_cache": True})]
    assert night.run(anew).made == 1
    assert not (night.root / "out" / "anew.mp4").samefile(first)


def test_a_hit_that_was_linked_and_not_yet_finished_is_not_linked_twice(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.catalog.jobs import Jobs

    finish, times = Jobs.finish, iter(range(1))

    def interrupted(self: Jobs, *args: Any, **options: Any) -> None:
        if next(times, None) is not None:
            raise RuntimeError("as if it had died here")
        finish(self, *args, **options)

    monkeypatch.setattr(Jobs, "finish", interrupted)
    night.run([batches.spec(0)])
    same = batches.spec(0, key="f" * 64, index=1, folder="again")
    summary = night.run([batches.spec(0), same])
    assert (summary.cached, summary.postponed) == (1, 1)
    assert [path.name for path in (night.root / "out" / "again").glob("*.mp4")] == ["lesson 0.mp4"]


def test_two_jobs_of_one_name_get_a_number(night: Night) -> None:
    night.run([batches.spec(n, name="same", folder=None) for n in range(3)], lanes=3)
    videos = sorted(path.name for path in (night.root / "out").glob("*.mp4"))
    assert videos == ["same.mp4", "same_2.mp4", "same_3.mp4"]


def test_without_a_name_files_have_the_usual_ones(night: Night) -> None:
    night.run([batches.spec(0, name=None, folder=None)])
    (video,) = (night.root / "out").glob("*.mp4")
    assert video.name.startswith("synthetic_video_2")


def test_lanes_run_beside_each_other_on_one_generator(night: Night) -> None:
    begun: list[int] = []
    both = threading.Event()

    def tell(event: Event) -> None:
        if isinstance(event, events.JobBegun):
            begun.append(event.lane)
            if len(set(begun)) == 2:
                both.set()

    night.on = tell
    night.tier.before = lambda job: None if both.wait(10) else pytest.fail("one lane only")
    specs = [batches.spec(0), batches.spec(1)]
    night.run(specs, lanes=2)
    assert night.faults(specs) == []


def test_priority_first_then_what_needs_no_reload(night: Night) -> None:
    sizes = ["128x64", "64x128", "128x64", "64x128"]
    specs = [
        batches.spec(n, fields={"size": size}, priority=int(n == 3)) for n, size in enumerate(sizes)
    ]
    night.run(specs, lanes=1)
    assert night.tier.made == ["lesson 3", "lesson 0", "lesson 2", "lesson 1"]


def test_an_edited_manifest_goes_on_with_the_same_batch(night: Night) -> None:
    night.run([batches.spec(0), batches.spec(1)])
    summary = night.run([batches.spec(1), batches.spec(2)])
    assert summary.made == 1
    assert summary.batch.counts == {"done": 3}


def test_an_empty_batch_is_done(night: Night) -> None:
    summary = night.run([])
    assert (summary.batch.total, summary.exit_status) == (0, 0)


def test_another_folder_under_the_same_name_is_refused(night: Night) -> None:
    night.run([])
    with pytest.raises(InvalidRequest, match="writes into"):
        night.run([batches.spec(0)], folder=night.root / "elsewhere")


@pytest.mark.parametrize("change", [{"name": " "}, {"lanes": 0}, {"tries": 0}, {"lease_s": 0.5}])
def test_options_that_mean_nothing_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        batches.options(tmp_path, **change)
    assert caught.value.field in change


def test_the_time_without_denoising_is_told(night: Night) -> None:
    night.tier = Tier(seconds=0.5)
    summary = night.run([batches.spec(0)])
    assert summary.not_denoising is not None
    assert 0 < summary.not_denoising < 1
    assert (1 - summary.not_denoising) * summary.elapsed_s == pytest.approx(0.5, abs=0.3)
