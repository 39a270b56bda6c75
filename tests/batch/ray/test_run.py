"""A batch by actors, in this process: what it tells, what it leaves, and what it takes from the lost."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers.near_hands import NearCluster, NearHand

from svd_local.batch import BatchOptions, BatchSummary, JobSpec
from svd_local.batch.control import Control
from svd_local.batch.events import (
    Event,
    JobBegun,
    JobDone,
    JobFailed,
    JobPostponed,
    JobProgress,
    JobReleased,
    Paused,
    Stopping,
    WorkerLost,
    WorkerSetAside,
    WorkerStarted,
)
from svd_local.batch.ray.actor import Actor
from svd_local.batch.ray.run import run_on, run_ray
from svd_local.batch.ray.values import House, Made
from svd_local.catalog import Catalog
from svd_local.errors import Cancelled, DeviceLost, InvalidRequest
from svd_local.generator import VideoGenerator
from svd_local.media.probe import probe
from svd_local.settings import Settings


def specs(count: int, **fields: Any) -> list[JobSpec]:
    usual = {"tier": "fake", "steps": 2}
    return [
        JobSpec(
            n + 1, n, f"{n:064x}", {"prompt": f"clip {n}", "seed": n, **usual, **fields}, None, None
        )
        for n in range(count)
    ]


class Night:
    """A batch on a cluster in this process, and what was told of it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.options = BatchOptions("night", folder, poll_s=0.05, backoff_s=0.0)
        self.events: list[Event] = []
        self.control = Control()

    def run(
        self,
        cluster: NearCluster,
        count: int = 4,
        on: Callable[[Event], None] | None = None,
        options: BatchOptions | None = None,
        **fields: Any,
    ) -> BatchSummary:
        def tell(event: Event) -> None:
            self.events.append(event)
            if on is not None:
                on(event)

        return run_on(
            cluster,  # type: ignore[arg-type]
            self.settings,
            specs(count, **fields),
            options or self.options,
            tell,
            self.control,
            restart_s=0.05,
        )

    def told(self, *kinds: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    def clips(self) -> list[Path]:
        return sorted(self.options.folder.glob("*.mp4"))

    def rows(self) -> list[Path]:
        with Catalog(None, self.settings.media_dir) as catalog:
            return sorted(clip.path for clip in catalog.clips())


@pytest.fixture
def night(machine: Settings, tmp_path: Path) -> Night:
    return Night(machine, tmp_path / "out")


def test_every_job_is_done_once_by_the_actors_and_published_here(
    night: Night, tmp_path: Path
) -> None:
    cluster = NearCluster(2, [Actor])
    summary = night.run(cluster, 5)
    assert (summary.exit_status, summary.made, summary.batch.counts) == (0, 5, {"done": 5})
    assert night.clips() == night.rows()
    assert len(night.clips()) == 5
    assert [probe(path).frames for path in night.clips()] == [14] * 5
    assert not list(night.options.folder.glob(".svd-*"))
    assert len(night.told(JobDone)) == 5
    assert {event.lane for event in night.told(JobBegun)} <= {0, 1, 2, 3}
    assert [event.gpu for event in night.told(WorkerStarted)] == ["10.0.0.2"] * 2
    assert sum(worker.clips for worker in summary.workers) == 5
    assert all(hand.closed for hand in cluster.hired)
    assert list((tmp_path / "node").iterdir()) == []


def test_what_the_catalog_has_is_found_here(night: Night, tmp_path: Path) -> None:
    night.run(NearCluster(1, [Actor]), 2)
    again = BatchOptions("again", tmp_path / "elsewhere", poll_s=0.05)
    summary = night.run(NearCluster(1, [Actor]), 3, options=again)
    assert (summary.made, summary.cached) == (1, 2)
    assert len(list((tmp_path / "elsewhere").glob("*.mp4"))) == 3
    assert len(night.rows()) == 3


def test_a_lost_actors_jobs_are_made_by_others_and_it_is_replaced(night: Night) -> None:
    night.settings = night.settings.model_copy(update={"fake_seconds": 0.4})
    cluster = NearCluster(2, [Actor])
    killed: list[NearHand] = []

    def kill(event: Event) -> None:
        if isinstance(event, JobProgress) and event.progress.stage == "denoise" and not killed:
            killed.append(cluster.at[f"seat-{event.lane // 2}"])
            killed[0].lose()

    summary = night.run(cluster, 6, kill)
    assert (summary.exit_status, summary.batch.counts) == (0, {"done": 6})
    assert len(night.clips()) == len(night.rows()) == 6
    [lost] = night.told(WorkerLost)
    assert lost.why == "it was killed"
    postponed = night.told(JobPostponed)
    assert postponed
    assert {event.reason.code for event in postponed} == {"worker-lost"}
    assert summary.postponed == len(postponed)
    assert sorted(worker.starts for worker in summary.workers) in ([1, 1], [1, 2])
    assert not list(night.options.folder.glob(".svd-*"))


def test_an_actor_that_dies_with_nothing_to_do_costs_no_job_a_try(night: Night) -> None:
    night.settings = night.settings.model_copy(update={"fake_seconds": 2.0})
    cluster = NearCluster(2, [Actor])

    def kill(event: Event) -> None:
        if isinstance(event, JobProgress):
            cluster.at[f"seat-{1 - event.lane}"].lose()

    summary = night.run(cluster, 1, kill, dataclasses.replace(night.options, lanes=1, poll_s=0.05))
    assert (summary.exit_status, summary.postponed) == (0, 0)
    assert night.told(WorkerLost)


def test_a_job_that_ends_every_actor_is_given_up_and_the_others_are_made(night: Night) -> None:
    cluster = NearCluster(1, [Actor])

    def kill(event: Event) -> None:
        if isinstance(event, JobBegun) and event.job.index == 1:
            cluster.hired[-1].lose()

    options = dataclasses.replace(night.options, tries=2, lanes=1)
    summary = night.run(cluster, 3, kill, options)
    assert (summary.exit_status, summary.batch.counts) == (1, {"done": 2, "failed": 1})
    [failed] = night.told(JobFailed)
    assert (failed.job.index, failed.job.attempt, failed.reason.code) == (1, 2, "worker-lost")
    assert night.told(WorkerSetAside) == []


class _Hanging(VideoGenerator):
    """Hangs in its first clip until ``freed``, and says nothing."""

    freed = threading.Event()

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        self.freed.wait(60)
        raise Cancelled("nobody is there to ask any more")


def test_an_actor_that_hangs_is_replaced(night: Night) -> None:
    cluster = NearCluster(1, [lambda house: Actor(house, _Hanging), Actor])
    options = dataclasses.replace(night.options, lanes=1, lease_s=1.0, silence_s=1.5)
    try:
        summary = night.run(cluster, 2, options=options)
    finally:
        _Hanging.freed.set()
    assert (summary.exit_status, summary.batch.counts) == (0, {"done": 2})
    [lost] = night.told(WorkerLost)
    said = r"ended because row \d showed no sign of life for \d+ s"
    assert re.fullmatch(said, lost.why)
    [postponed] = night.told(JobPostponed)
    assert re.search(said, postponed.reason.message)
    assert len(night.rows()) == 2


class _Frozen:
    """Makers of actors that are not up before ``freed``, or a while has passed."""

    def __init__(self, longest_s: float) -> None:
        self.freed = threading.Event()
        self._longest_s = longest_s

    def make(self, house: House) -> Actor:
        self.freed.wait(self._longest_s)
        return Actor(house)


def test_an_actor_that_freezes_while_it_starts_is_replaced(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svd_local.batch.ray.staff._START_S", 1.5)
    monkeypatch.setattr("svd_local.batch.ray.staff._SAY_S", 1.0)
    frozen = _Frozen(30)
    cluster = NearCluster(1, [frozen.make, Actor])
    try:
        summary = night.run(cluster, 2)
    finally:
        frozen.freed.set()
    assert (summary.exit_status, summary.batch.counts) == (0, {"done": 2})
    [lost] = night.told(WorkerLost)
    assert re.fullmatch(r"its process has run for \d s and is not up yet", lost.why)
    assert lost.gpu == "10.0.0.2"
    assert night.told(JobPostponed) == [], "no job has had a try"
    assert night.told(Paused) == [], "there is room"


def test_waiting_for_room_is_no_freezing(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svd_local.batch.ray.staff._START_S", 0.3)
    monkeypatch.setattr("svd_local.batch.ray.staff._SAY_S", 0.1)
    cluster = NearCluster(1, [make := _Frozen(1.5).make])
    cluster.without_room.append(make)
    summary = night.run(cluster, 1)
    assert (summary.exit_status, night.told(WorkerLost)) == (0, [])
    [paused] = night.told(Paused)
    assert "has room" in paused.why


def test_waiting_in_silence_is_no_hanging(night: Night) -> None:
    """Whoever asks whether the clip is still wanted lives, though there is nothing to tell."""
    night.settings = night.settings.model_copy(update={"fake_seconds": 3.0})
    options = dataclasses.replace(night.options, lanes=1, lease_s=1.0, silence_s=1.5)
    summary = night.run(NearCluster(1, [Actor]), 1, options=options, steps=1)
    assert (summary.exit_status, summary.postponed) == (0, 0)
    assert night.told(WorkerLost) == []


class _Poisoned(VideoGenerator):
    def generate(self, *args: Any, **kwargs: Any) -> Any:
        raise DeviceLost("an assert in a kernel")


def test_a_lost_gpu_has_its_actor_replaced(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svd_local.batch.ray.actor._leave_soon", lambda: None)
    cluster = NearCluster(1, [lambda house: Actor(house, _Poisoned), Actor])
    summary = night.run(cluster, 2)
    assert (summary.exit_status, summary.batch.counts) == (0, {"done": 2})
    assert [event.why for event in night.told(WorkerLost)] == ["an assert in a kernel"]
    assert len(cluster.hired) == 2


def test_a_node_that_can_make_nothing_is_set_aside_and_kept_out_of_the_way(night: Night) -> None:
    def stranger(house: House) -> Actor:
        return Actor(dataclasses.replace(house, version="0.0.1"))

    summary = night.run(NearCluster(2, [stranger, Actor]), 3)
    assert (summary.exit_status, summary.made) == (0, 3)
    [aside] = night.told(WorkerSetAside)
    assert "0.0.1" in aside.why
    assert [worker.set_aside is None for worker in summary.workers].count(False) == 1


def test_without_any_node_of_use_the_jobs_stay_queued(night: Night) -> None:
    night.settings = night.settings.model_copy(update={"enable_fake_tier": False})
    summary = night.run(NearCluster(2, [Actor]), 2)
    assert (summary.exit_status, summary.batch.counts) == (1, {"queued": 2})
    assert "SVD_LOCAL_ENABLE_FAKE_TIER" in (summary.workers[0].set_aside or "")


def test_a_clip_that_is_damaged_on_its_way_is_made_again(night: Night) -> None:
    cluster = NearCluster(1, [Actor])
    spoilt: list[Made] = []

    def spoil(answer: Made) -> Made:
        if spoilt:
            return answer
        spoilt.append(answer)
        contents = {**answer.parcel.contents, ".mp4": answer.parcel.contents[".mp4"][:-1] + b"?"}
        return Made(dataclasses.replace(answer.parcel, contents=contents))

    def hear(event: Event) -> None:
        if isinstance(event, WorkerStarted):
            cluster.hired[0].spoil = spoil

    night.settings = night.settings.model_copy(update={"fake_seconds": 0.5})
    summary = night.run(cluster, 1, hear)
    assert (summary.made, summary.postponed) == (1, 1)
    [postponed] = night.told(JobPostponed)
    assert "damaged" in postponed.reason.message


@pytest.mark.parametrize(("times", "done"), [(1, 2), (2, 0)])
def test_asked_once_it_finishes_the_clips_at_hand_twice_it_gives_them_back(
    night: Night, times: int, done: int
) -> None:
    night.settings = night.settings.model_copy(update={"fake_seconds": 0.5})
    asked: list[Event] = []

    def ask(event: Event) -> None:
        if isinstance(event, JobProgress) and not asked and len(night.told(JobBegun)) == 2:
            asked.append(event)
            for _ in range(times):
                night.control.ask()

    summary = night.run(NearCluster(1, [Actor]), 5, ask)
    assert (summary.exit_status, summary.stopped) == (130, True)
    assert summary.batch.counts.get("done", 0) == done == len(night.clips())
    assert summary.batch.counts["queued"] == 5 - done
    assert len(night.told(JobReleased)) == 2 - done
    assert [event.cancelling for event in night.told(Stopping)][-1] == (times == 2)
    assert not list(night.options.folder.glob(".svd-*"))


def test_a_job_that_is_cancelled_elsewhere_is_stopped_there(night: Night) -> None:
    night.settings = night.settings.model_copy(update={"fake_seconds": 30.0})
    cluster = NearCluster(1, [Actor])
    options = dataclasses.replace(night.options, lease_s=1.0)
    with Catalog(None, night.settings.media_dir) as catalog:

        def cancel(event: Event) -> None:
            if isinstance(event, JobProgress):
                catalog.jobs.cancel(event.job.batch_id)

        summary = night.run(cluster, 1, cancel, options)
    assert summary.batch.counts == {"cancelled": 1}
    assert len(cluster.hired[0].cancelled) == 1
    assert night.clips() == []


def test_nodes_that_join_later_are_used(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svd_local.batch.ray.staff._LOOK_AROUND_S", 0.1)
    cluster = NearCluster(0, [Actor])
    timer = threading.Timer(0.5, setattr, (cluster, "count", 1))
    timer.start()
    summary = night.run(cluster, 2)
    assert (summary.exit_status, summary.made) == (0, 2)


def test_a_listener_that_raises_stops_it_and_gives_the_jobs_back(night: Night) -> None:
    night.settings = night.settings.model_copy(update={"fake_seconds": 30.0})

    def hear(event: Event) -> None:
        if isinstance(event, JobProgress):
            raise LookupError

    with pytest.raises(LookupError):
        night.run(NearCluster(1, [Actor]), 2, hear)
    with Catalog(None, night.settings.media_dir) as catalog:
        assert catalog.jobs.batch("night").counts == {"queued": 2}


def test_what_cannot_be_connected_is_said_before_anything_is_written(
    machine: Settings, tmp_path: Path
) -> None:
    options = BatchOptions("night", tmp_path / "out")
    for address, told in [("127.0.0.1:1", "no Ray cluster"), ("ray://head:10001", "protocol")]:
        with pytest.raises(InvalidRequest, match=told) as refused:
            run_ray(machine, specs(1), options, address=address)
        assert refused.value.field == "address"
    with pytest.raises(InvalidRequest, match="workers"):
        run_ray(machine, specs(1), options, workers=0)
    assert not machine.media_dir.exists()
    assert not (tmp_path / "out").exists()
