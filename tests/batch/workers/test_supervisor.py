"""Workers that die, and the supervisor that goes on: real processes, a fake tier."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter

import pytest
from servers.nights import gpu

from svd_local.batch.events import (
    Begun,
    JobBegun,
    JobDone,
    JobFailed,
    JobPostponed,
    JobProgress,
    JobReleased,
    JobStalled,
    WorkerLost,
    WorkerSetAside,
    WorkerStarted,
)
from svd_local.batch.workers import supervisor
from svd_local.errors import InvalidRequest


def test_workers_that_die_are_replaced_and_every_job_is_done_once(night):
    summary = night.run(["die-once", "b", "segv-once", "d", "lose-once"], lanes=1)

    assert (summary.exit_status, summary.made, summary.batch.counts) == (0, 5, {"done": 5})
    assert [job.attempt for job in night.jobs()] == [2, 1, 2, 1, 2]
    assert len(night.videos()) == 5
    assert night.left() == []
    assert len(night.told(Begun)) == 1
    assert Counter(event.job.index for event in night.told(JobDone)) == dict.fromkeys(range(5), 1)
    postponed = night.told(JobPostponed)
    assert [(event.job.index, event.job.state) for event in postponed] == [
        (0, "queued"),
        (2, "queued"),
        (4, "queued"),
    ]
    lost = night.told(WorkerLost)
    for told in ([event.reason.message for event in postponed], [event.why for event in lost]):
        assert ["SIGKILL" in told[0], "SIGSEGV" in told[1], "assert" in told[2]] == [True] * 3
    assert [event.restart_s for event in lost] == [0.05] * 3

    [worker] = summary.workers
    assert (worker.clips, worker.starts, worker.set_aside) == (5, 4, None)
    assert worker.losses == tuple(event.why for event in lost)
    assert worker.denoising is not None
    assert 0 < worker.denoising < 1
    assert summary.not_denoising == pytest.approx(1 - worker.denoising)
    assert worker.gpu_use is None
    assert summary.postponed == 3


def test_a_worker_that_hangs_or_freezes_is_replaced(night):
    summary = night.run(["hang-once", "freeze-once"], lanes=1, lease_s=2, silence_s=1.5)

    assert (summary.exit_status, summary.batch.counts) == (0, {"done": 2})
    hung, frozen = (event.why for event in night.told(WorkerLost))
    said = r"ended because row 2 showed no sign of life for \d+ s \(denoise, 0 of 1\)"
    assert re.fullmatch(said, hung)
    assert re.fullmatch(r"ended because it gave no sign of life for [34] s", frozen)
    assert [event.job.row for event in night.told(JobStalled)] == [2]
    postponed = night.told(JobPostponed)
    assert [(event.job.row, event.reason.code) for event in postponed] == [
        (2, "worker-lost"),
        (3, "worker-lost"),
    ]
    assert [event.reason.message for event in postponed] == [
        f"its worker died: {why}" for why in (hung, frozen)
    ]
    assert [job.attempt for job in night.jobs()] == [2, 2]
    assert summary.workers[0].losses == (hung, frozen)
    assert night.left() == []


def test_a_worker_that_freezes_while_it_starts_is_replaced(night):
    summary = night.run(["a"], places=[gpu("GPU-frozen")], lease_s=1)

    assert (summary.exit_status, summary.batch.counts) == (0, {"done": 1})
    [lost] = night.told(WorkerLost)
    assert re.fullmatch(r"ended because it gave no sign of life for [12] s", lost.why)
    assert [job.attempt for job in night.jobs()] == [1]


def test_a_worker_that_does_not_even_cancel_is_ended_and_its_jobs_lose_nothing(night, monkeypatch):
    monkeypatch.setattr(supervisor, "_CANCEL_PATIENCE_S", 0.2)

    def on(event):
        if isinstance(event, JobProgress) and event.progress.stage == "denoise":
            night.control.cancel()

    summary = night.run(["freeze", "b"], lanes=1, on=on)

    assert summary.stopped
    [lost] = night.told(WorkerLost)
    assert (lost.why, lost.restart_s) == ("it did not answer, and was ended", None)
    assert [event.job.row for event in night.told(JobReleased)] == [2]
    assert night.told(JobPostponed, WorkerSetAside) == []
    assert [(job.state, job.attempt, job.reason) for job in night.jobs()] == [
        ("queued", 0, None)
    ] * 2
    assert night.left() == []


def test_a_job_that_kills_every_worker_is_given_up_and_the_others_are_made(night):
    summary = night.run(["a", "die", "c"], tries=2)

    assert (summary.exit_status, summary.batch.counts) == (1, {"done": 2, "failed": 1})
    [failed] = night.told(JobFailed)
    assert (failed.job.index, failed.job.attempt) == (1, 2)
    assert failed.reason.code == "worker-lost"
    assert failed.reason.message.startswith(
        "its worker died 2 times, the last time: killed by SIGK"
    )
    assert str(night.told(WorkerStarted)[0].log) in failed.reason.hint
    assert night.told(WorkerStarted)[0].log.is_file()
    assert night.jobs()[1].reason == failed.reason
    assert night.told(WorkerSetAside) == []
    assert night.left() == []


@pytest.mark.long
def test_the_lost_gpu_of_one_job_is_that_jobs_fault_too(night):
    summary = night.run(["lose"], places=[gpu("GPU-1")])

    assert (summary.exit_status, summary.batch.counts) == (1, {"failed": 1})
    assert [job.reason.code for job in night.jobs()] == ["device-lost"]
    assert night.told(WorkerSetAside) == []


def test_a_gpu_on_which_all_fails_is_set_aside_and_the_other_goes_on(night):
    hold = night.marks / "hold"
    hold.touch()

    def on(event):
        if isinstance(event, WorkerSetAside):
            hold.unlink()

    prompts = ["die:GPU-bad"] * 6
    places = [gpu("GPU-good"), gpu("GPU-bad")]
    summary = night.run(prompts, places, on, lanes=1)

    assert (summary.exit_status, summary.batch.counts) == (0, {"done": 6})
    [aside] = night.told(WorkerSetAside)
    assert (aside.worker, aside.gpu) == (1, "NVIDIA Testing 9000 (1)")
    good, bad = summary.workers
    assert (good.clips, good.starts, good.set_aside) == (6, 1, None)
    assert (bad.clips, bad.starts, bad.set_aside) == (0, 3, aside.why)
    assert len(bad.losses) == 3
    assert summary.to_json()["workers"][1]["uuid"] == "GPU-bad"


def test_without_any_gpu_left_the_batch_ends_and_its_jobs_stay_queued(night):
    summary = night.run(["a", "b"], places=[gpu("GPU-gone")])

    assert (summary.exit_status, summary.batch.counts) == (1, {"queued": 2})
    assert [job.attempt for job in night.jobs()] == [0, 0]
    [aside] = night.told(WorkerSetAside)
    assert "the GPU cannot be used: no answer" in aside.why
    assert summary.workers[0].set_aside == aside.why
    assert [event.restart_s for event in night.told(WorkerLost)] == [0.05, 0.1, None]


@pytest.mark.long
def test_two_workers_share_forty_jobs_without_a_double(night):
    summary = night.run([f"clip {n}" for n in range(40)], places=[None, None])

    assert summary.batch.counts == {"done": 40}
    assert Counter(event.job.id for event in night.told(JobBegun)).most_common(1)[0][1] == 1
    assert len({event.job.id for event in night.told(JobDone)}) == 40
    assert len(night.videos()) == 40
    assert all(worker.clips for worker in summary.workers)
    assert sum(worker.clips for worker in summary.workers) == 40
    assert {event.lane for event in night.told(JobBegun)} <= {0, 1, 2, 3}
    assert len({event.lane // 2 for event in night.told(JobBegun)}) == 2


@pytest.mark.long
def test_a_worker_ended_from_outside_finishes_its_clip_and_is_replaced(night, settings):
    night.settings = settings.model_copy(update={"fake_seconds": 0.3})

    def on(event):
        if isinstance(event, JobBegun) and len(night.told(JobBegun)) == 1:
            os.kill(night.told(WorkerStarted)[0].pid, signal.SIGTERM)

    summary = night.run(["a", "b", "c"], lanes=1, on=on)

    assert (summary.exit_status, summary.batch.counts) == (0, {"done": 3})
    assert [job.attempt for job in night.jobs()] == [1, 1, 1]
    assert [event.why for event in night.told(WorkerLost)] == ["it ended before the batch did"]


def test_what_the_listener_raises_ends_the_batch_and_gives_the_jobs_back(night, settings):
    night.settings = settings.model_copy(update={"fake_seconds": 30})

    def on(event):
        if isinstance(event, JobBegun):
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        night.run(["a", "b"], on=on)

    assert night.states() == {"queued": 2}
    assert [job.attempt for job in night.jobs()] == [0, 0]
    assert night.left() == []


def test_settings_no_worker_understands_are_told_once(night, settings):
    night.settings = settings.model_copy(update={"hf_provider": 7})

    with pytest.raises(InvalidRequest, match="SVD_LOCAL_HF_PROVIDER"):
        night.run(["a"])

    assert len(night.told(WorkerStarted)) == 1


def test_a_worker_that_cannot_be_started_is_no_end_without_a_word(night):
    (night.settings.media_dir / "logs").mkdir(parents=True)
    (night.settings.media_dir / "logs").chmod(0o500)
    if os.access(night.settings.media_dir / "logs", os.W_OK):
        (night.settings.media_dir / "logs").rmdir()
        (night.settings.media_dir / "logs").write_text("no folder")

    summary = night.run(["a"])

    assert (summary.exit_status, summary.batch.counts) == (1, {"queued": 1})
    assert "logs" in summary.workers[0].set_aside
