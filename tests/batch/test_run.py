from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import batches
from servers.databases import database_of, on_either_server

from svd_local.batch import events
from svd_local.batch.control import Control
from svd_local.batch.events import Event
from svd_local.batch.plan import new_jobs
from svd_local.batch.run import run_batch
from svd_local.batch.summary import BatchSummary
from svd_local.catalog import Catalog
from svd_local.errors import CommitUnknown, DiskFull, InvalidRequest, StorageFailed
from svd_local.generator import VideoGenerator
from svd_local.tiers.base import Frames, Job
from svd_local.tiers.fake import FakeTier


class Tier(FakeTier):
    """The fake tier; ``before`` is called with every clip that is really made, and may raise."""

    def __init__(self, failures: str = "", seconds: float = 0.0) -> None:
        super().__init__(enabled=True, seconds=seconds, failures=failures)
        self.before: Callable[[Job], None] = lambda job: None
        self.made: list[str | None] = []

    def generate(self, job: Job) -> Frames:
        self.before(job)
        self.made.append(job.request.prompt)
        return super().generate(job)


class Night:
    """One batch on one tier, run as often as wanted, and what was told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tier = Tier()
        self.control = Control()
        self.told: list[Event] = []
        self.on: Callable[[Event], None] = lambda event: None

    def run(
        self, specs: Any, machine: dict[str, Any] | None = None, **options: Any
    ) -> BatchSummary:
        def tell(event: Event) -> None:
            self.told.append(event)
            self.on(event)

        settings = batches.settings(self.root, database_of(self.root), **(machine or {}))
        with VideoGenerator(settings, tiers=[self.tier]) as generator:
            return run_batch(
                settings,
                specs,
                batches.options(self.root, **options),
                tell,
                control=self.control,
                generator=generator,
            )

    def catalog(self) -> Catalog:
        return Catalog(database_of(self.root), self.root / "media")

    def faults(self, specs: Any) -> list[str]:
        return batches.faults(self.root, specs, database_of(self.root))

    def kinds(self) -> Counter[str]:
        return Counter(type(event).__name__ for event in self.told)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]


@pytest.fixture
def night(tmp_path: Path, server: str) -> Night:
    return Night(tmp_path)


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


@on_either_server
def test_what_fails_is_tried_again_and_then_given_up_with_its_reason(night: Night) -> None:
    night.tier = Tier("failed*3,ok")
    specs = [batches.spec(0), batches.spec(1)]
    summary = night.run(specs, lanes=1, tries=2)
    assert summary.exit_status == 1
    assert (summary.postponed, summary.made) == (2, 1)
    assert summary.batch.counts == {"failed": 1, "done": 1}
    (failed,) = summary.failures
    assert failed.reason is not None
    assert (failed.reason.code, failed.attempt) == ("tier-failed", 2)
    assert summary.to_json()["failures"][0]["reason"]["message"] == "the fake tier was told to fail"


def test_a_busy_tier_is_waited_for_as_long_as_it_says(night: Night) -> None:
    def busy(job: Job) -> None:
        from svd_local.errors import TierBusy

        if not moments:
            moments.append(time.monotonic())
            raise TierBusy("not now", retry_after_s=0.6)
        moments.append(time.monotonic())

    moments: list[float] = []
    night.tier.before = busy
    specs = [batches.spec(0)]
    summary = night.run(specs)
    assert night.faults(specs) == []  # no placeholder either
    assert (summary.made, summary.postponed) == (1, 1)
    assert moments[1] - moments[0] >= 0.6
    (postponed,) = night.of(events.JobPostponed)
    assert postponed.reason.code == "tier-busy"
    assert len(night.of(events.Waiting)) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"fields": {"frames": 1}}, "frames"),
        ({"fields": {"image": "/nowhere/picture.png", "prompt": None}}, "image"),
        ({"fields": {"nonsense": 1}}, "nonsense"),
        ({"fields": {"tier": "placeholder"}}, "tier"),
        ({"folder": "../out of it"}, "folder"),
        ({"folder": "/etc"}, "folder"),
        ({"name": "a/b"}, "a/b"),
        ({"name": ".hidden"}, "hidden"),
    ],
)
def test_bad_input_is_given_up_at_once_and_the_rest_is_made(
    night: Night, change: dict[str, Any], field: str
) -> None:
    summary = night.run([batches.spec(0, **change), batches.spec(1)])
    assert summary.batch.counts == {"failed": 1, "done": 1}
    (failed,) = summary.failures
    assert failed.reason is not None
    assert (failed.row, failed.attempt) == (2, 1)
    assert field in failed.reason.message or field in failed.reason.hint
    assert len(list(night.root.rglob("*.mp4"))) == 1


def test_a_link_that_leads_out_of_the_folder_is_not_followed(night: Night) -> None:
    (night.root / "elsewhere").mkdir()
    (night.root / "out").mkdir()
    (night.root / "out" / "link").symlink_to(night.root / "elsewhere")
    summary = night.run([batches.spec(0, folder="link")])
    assert summary.batch.counts == {"failed": 1}
    assert list((night.root / "elsewhere").iterdir()) == []


def test_a_bug_is_a_reason_too(night: Night) -> None:
    def bug(job: Job) -> None:
        raise ZeroDivisionError("by nothing")

    night.tier.before = bug
    summary = night.run([batches.spec(0)], tries=2)
    (failed,) = summary.failures
    assert failed.reason is not None
    assert failed.reason.code == "bug"
    assert "ZeroDivisionError: by nothing" in failed.reason.message
    assert failed.attempt == 2


def test_asked_once_it_finishes_the_clip_at_hand_and_goes_on_next_time(night: Night) -> None:
    night.tier.before = lambda job: night.control.ask()
    specs = [batches.spec(number) for number in range(3)]
    summary = night.run(specs, lanes=1)
    assert (summary.made, summary.stopped, summary.exit_status) == (1, True, 130)
    assert summary.batch.counts == {"done": 1, "queued": 2}
    night.control, night.tier.before = Control(), lambda job: None
    assert night.run(specs).exit_status == 0
    assert night.faults(specs) == []
    assert len(night.tier.made) == 3


def test_asked_twice_it_gives_the_clip_at_hand_back(night: Night) -> None:
    def twice(job: Job) -> None:
        night.control.ask()
        night.control.ask()

    night.tier.before = twice
    specs = [batches.spec(0)]
    summary = night.run(specs)
    assert (summary.made, summary.batch.counts) == (0, {"queued": 1})
    assert len(night.of(events.JobReleased)) == 1
    assert list((night.root / "out").iterdir()) == []
    night.control, night.tier.before = Control(), lambda job: None
    night.run(specs)
    with night.catalog() as catalog:
        (job,) = catalog.jobs.jobs(catalog.jobs.batch("night").id)
    assert job.attempt == 1


def test_an_interrupt_asks_once(night: Night) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, events.JobDone):
            raise KeyboardInterrupt

    night.on = interrupt
    night.tier = Tier(seconds=0.3)
    summary = night.run([batches.spec(number) for number in range(4)], lanes=1)
    assert summary.stopped
    assert 1 <= summary.made <= 3
    assert night.of(events.Stopping)[0].cancelling is False


def test_a_callback_that_raises_stops_the_batch_and_nothing_is_lost(night: Night) -> None:
    def raises(event: Event) -> None:
        if isinstance(event, events.JobProgress):
            raise ConnectionError("nobody looks any more")

    night.on = raises
    night.tier = Tier(seconds=0.3)
    specs = [batches.spec(0)]
    with pytest.raises(ConnectionError):
        night.run(specs)
    night.on, night.control = lambda event: None, Control()
    night.run(specs)
    assert night.faults(specs) == []


def test_a_cancelled_job_stops_in_the_making_and_publishes_nothing(night: Night) -> None:
    def cancel(job: Job) -> None:
        with night.catalog() as catalog:
            catalog.jobs.cancel(catalog.jobs.batch("night").id)

    night.tier = Tier(seconds=30)
    night.tier.before = cancel
    begun = time.monotonic()
    summary = night.run([batches.spec(0)], lease_s=1)
    assert time.monotonic() - begun < 10
    assert summary.batch.counts == {"cancelled": 1}
    assert len(night.of(events.JobLost)) == 1
    assert list((night.root / "out").iterdir()) == []


def test_who_lost_the_lease_while_publishing_takes_the_files_back(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.storage import Staging

    publish = Staging.publish

    def lose_it_first(staging: Staging, *args: Any, **options: Any) -> dict[str, Path]:
        paths = publish(staging, *args, **options)
        assert all(path.exists() for path in paths.values())
        with night.catalog() as catalog:
            catalog.jobs.cancel(catalog.jobs.batch("night").id)
        return paths

    monkeypatch.setattr(Staging, "publish", lose_it_first)
    summary = night.run([batches.spec(0)])
    assert summary.batch.counts == {"cancelled": 1}
    assert len(night.of(events.JobLost)) == 1
    assert list((night.root / "out").iterdir()) == []
    with night.catalog() as catalog:
        assert catalog.clips() == []


@pytest.mark.parametrize("committed", [True, False])
def test_a_clip_whose_commit_is_not_known_is_kept_and_not_made_again(
    night: Night, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    add = Catalog.add

    def unknown(self: Catalog, *args: Any, **options: Any) -> str:
        monkeypatch.setattr(
            Catalog, "add", add
        )  # not undone: which server it is is patched in, too
        if committed:
            add(self, *args, **options)
        raise CommitUnknown("the answer was lost")

    monkeypatch.setattr(Catalog, "add", unknown)
    specs = [batches.spec(0)]
    summary = night.run(specs)
    assert (summary.made, summary.adopted, summary.postponed) == (committed, not committed, 0)
    assert night.faults(specs) == []
    assert len(night.tier.made) == 1
    assert len(night.of(events.JobDone)) == 1


def test_it_pauses_before_the_disk_is_full_and_goes_on_when_there_is_room(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.batch import space

    real, full = space.shutil.disk_usage, threading.Event()
    full.set()

    def usage(path: Path) -> Any:
        found = real(path)
        return found._replace(free=1000) if full.is_set() else found

    monkeypatch.setattr("svd_local.batch.space.shutil.disk_usage", usage)

    def make_room(event: Event) -> None:
        if isinstance(event, events.Paused):
            assert night.tier.made == []
            full.clear()

    night.on = make_room
    specs = [batches.spec(0), batches.spec(1)]
    night.run(specs, {"disk_reserve": 2**20})
    assert night.faults(specs) == []
    (paused,) = night.of(events.Paused)
    assert "1000 B free" in paused.why
    assert "SVD_LOCAL_DISK_RESERVE" in paused.hint
    assert len(night.of(events.Resumed)) == 1


def test_a_disk_that_is_full_again_and_again_costs_no_try(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.batch import space

    real, freed = space.shutil.disk_usage, 0

    def make_room(event: Event) -> None:
        nonlocal freed
        freed += 2**40 if isinstance(event, events.Paused) else 0

    def usage(path: Path) -> Any:
        found = real(path)
        return found._replace(free=found.free + freed)

    monkeypatch.setattr("svd_local.batch.space.shutil.disk_usage", usage)
    night.on = make_room

    def full(job: Job) -> None:
        if len(night.of(events.JobPostponed)) < 4:
            raise DiskFull("no room left", hint="Free some space.")

    night.tier.before = full
    specs = [batches.spec(0)]
    summary = night.run(specs, tries=2, lanes=1)
    assert night.faults(specs) == []
    assert (summary.made, summary.postponed) == (1, 4)
    with night.catalog() as catalog:
        (job,) = catalog.jobs.jobs(catalog.jobs.batch("night").id)
    assert job.attempt == 1
    assert [paused.why for paused in night.of(events.Paused)] == ["no room left"] * 4


def test_a_paused_batch_can_be_stopped(night: Night) -> None:
    night.on = lambda event: night.control.ask() if isinstance(event, events.Paused) else None
    summary = night.run([batches.spec(0)], {"disk_reserve": 2**60})
    assert summary.batch.counts == {"queued": 1}
    assert summary.exit_status == 130


def test_a_row_that_was_deleted_while_it_was_made_by_a_dead_worker_is_not_made(
    night: Night,
) -> None:
    specs = [batches.spec(0), batches.spec(1)]
    workers = night.root / "media" / ".svd-workers"
    workers.mkdir(parents=True)
    (workers / "dead").touch()
    with night.catalog() as catalog:
        there = catalog.jobs.enroll("night", new_jobs(specs), folder=night.root / "out").batch
        lease = catalog.jobs.claim(there.id, "dead", lease_s=60)
    assert lease is not None
    assert lease.job.index == 0
    summary = night.run(specs[1:])
    assert summary.batch.counts == {"cancelled": 1, "done": 1}
    assert night.tier.made == ["lesson 1"]
    (begun,) = night.of(events.Begun)
    assert (begun.enrolment.cancelled, begun.enrolment.leaving) == (1, 0)


def test_a_job_between_its_claim_and_its_beginning_is_not_with_other_workers(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.catalog.jobs import Jobs

    real = Jobs.claim

    def slow(self: Jobs, *args: Any, **options: Any) -> Any:
        lease = real(self, *args, **options)
        time.sleep(0.5 if lease is not None else 0.0)
        return lease

    monkeypatch.setattr(Jobs, "claim", slow)
    night.run([batches.spec(0)])
    assert night.of(events.Waiting) == []


def test_a_job_that_is_given_back_to_be_made_alone_is_not_with_other_workers(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two whose worker was killed, claimed side by side: one is given back, while the other lane looks."""
    from svd_local.catalog.jobs import Jobs

    real, claim, gave = Jobs.release, Jobs.claim, []

    def slow(self: Jobs, lease: Any) -> bool:
        gave.append(lease.job.index)
        time.sleep(0.5)  # and the other lane has no job left to claim
        return real(self, lease)

    def late(self: Jobs, *args: Any, **options: Any) -> Any:
        time.sleep(0.1)  # both lanes are there by then
        return claim(self, *args, **options)

    monkeypatch.setattr(Jobs, "release", slow)
    monkeypatch.setattr(Jobs, "claim", late)
    specs = [batches.spec(0), batches.spec(1)]
    workers = night.root / "media" / ".svd-workers"
    workers.mkdir(parents=True)
    (workers / "dead").touch()
    with night.catalog() as catalog:
        there = catalog.jobs.enroll("night", new_jobs(specs), folder=night.root / "out").batch
        for _ in specs:
            assert claim(catalog.jobs, there.id, "dead", lease_s=60) is not None
    night.run(specs)
    assert night.faults(specs) == []
    assert gave
    assert night.of(events.Waiting) == []


def test_jobs_that_other_workers_have_are_waited_for_and_that_is_said(night: Night) -> None:
    with night.catalog() as catalog:
        specs = [batches.spec(0)]
        there = catalog.jobs.enroll("night", new_jobs(specs), folder=night.root / "out").batch
        assert catalog.jobs.claim(there.id, "elsewhere", lease_s=1) is not None
    night.run(specs)
    [waiting] = night.of(events.Waiting)
    assert (waiting.queued, waiting.running, waiting.workers) == (0, 1, ("elsewhere",))


def test_a_locked_catalog_is_waited_for(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    from svd_local.catalog.jobs import Jobs

    real, refusals = Jobs.claim, iter(range(2))

    def claim(self: Jobs, *args: Any, **options: Any) -> Any:
        if next(refusals, None) is not None:
            raise StorageFailed("database is locked", hint="Wait.")
        return real(self, *args, **options)

    monkeypatch.setattr(Jobs, "claim", claim)
    specs = [batches.spec(0)]
    night.run(specs, lanes=1)
    assert night.faults(specs) == []
    assert [event.why for event in night.of(events.Paused)] == ["database is locked"]
    assert len(night.of(events.Resumed)) == 1


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
