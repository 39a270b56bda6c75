"""Clips that hang: noticed, said, and let go of; slow ones are left in peace."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import batches
from servers.values import JOB

from svd_local.batch import events, run
from svd_local.batch.control import Control
from svd_local.batch.heart import Heart
from svd_local.batch.run import run_batch
from svd_local.batch.stalls import CPU_SILENCE_S, SILENCE_S, Signs, lasted, patience_s
from svd_local.catalog import Catalog
from svd_local.catalog.jobs import Lease
from svd_local.cli.batch_progress import _passing
from svd_local.errors import Cancelled, InvalidRequest
from svd_local.generator import VideoGenerator
from svd_local.result import Progress
from svd_local.testing import FakeTier
from svd_local.tiers import huggingface, webui
from svd_local.tiers.base import Frames, Job

SPEC = batches.spec(0)


class Hanging(FakeTier):
    """The first clip hangs after its first step, as a call into a driver does, until it is let go."""

    def __init__(self) -> None:
        super().__init__(True)
        self.go_on = threading.Event()
        self.hangs = [True]

    def generate(self, job: Job) -> Frames:
        if self.hangs:
            self.hangs.pop()
            job.monitor.report("denoise", 1, 25)
            self.go_on.wait()
        return super().generate(job)


@pytest.fixture
def tier() -> Any:
    tier = Hanging()
    yield tier
    tier.go_on.set()


def test_patience_is_twice_any_deadline_of_a_tier_and_more_on_the_cpu(tmp_path: Path) -> None:
    usual = batches.options(tmp_path)
    assert patience_s(JOB, usual) == SILENCE_S
    assert 2 * max(huggingface.POLICY.deadline_s, webui.POLICY.deadline_s) <= SILENCE_S
    on_cpu = dataclasses.replace(JOB, fields={"device": "cpu"})
    assert patience_s(on_cpu, usual) == CPU_SILENCE_S
    assert patience_s(on_cpu, batches.options(tmp_path, silence_s=7.0)) == 7.0
    with pytest.raises(InvalidRequest, match="hung_after"):
        batches.options(tmp_path, silence_s=0)


def test_any_sign_of_life_counts() -> None:
    now = [0.0]
    signs = Signs(10.0, clock=lambda: now[0])
    now[0] = 9.0
    signs.alive(Progress("denoise", 4, 25))
    now[0] = 18.0
    assert signs.silent() is None
    signs.alive()
    now[0] = 28.5
    assert signs.silent() == (10.5, "denoise, 4 of 25")
    signs.alive(Progress("load"))
    assert signs.silent() is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(50, "50 s"), (1860, "31 min"), (23400, "6.5 h"), (7199, "120 min")]
)
def test_how_long_it_lasted(seconds: float, text: str) -> None:
    assert lasted(seconds) == text


def test_the_heart_beats_for_who_lives_and_says_once_who_does_not() -> None:
    beats: list[str] = []
    stalls: list[tuple[float, str]] = []
    told = threading.Event()

    class Jobs:
        def heartbeat(self, lease: Lease) -> None:
            beats.append(lease.token)

    dead, alive = Signs(0.05), Signs(60.0)

    def stalled(silent_s: float, doing: str) -> None:
        stalls.append((silent_s, doing))
        told.set()

    with (
        Heart(Jobs(), 0.04) as heart,  # type: ignore[arg-type]
        heart.keeping(Lease(JOB, "dead", 1), dead, stalled),
        heart.keeping(Lease(JOB, "alive", 1), alive),
    ):
        assert told.wait(10)
        time.sleep(0.05)
        count = beats.count("dead")
        time.sleep(0.2)
        assert beats.count("dead") == count
        assert beats.count("alive") > count
        assert len(stalls) == 1
        dead.patience_s = 60.0  # as if it had been heard of again
        give_up = time.monotonic() + 10
        while beats.count("dead") == count and time.monotonic() < give_up:
            time.sleep(0.01)
        assert beats.count("dead") > count
        assert {lease.token for lease in heart.let_go()} == {"dead", "alive"}


def test_a_hanging_clip_is_told_its_job_can_be_taken_over_and_it_publishes_nothing(
    tmp_path: Path, tier: Hanging
) -> None:
    told: list[events.Event] = []
    settings = batches.settings(tmp_path)

    def tell(event: events.Event) -> None:
        told.append(event)
        if isinstance(event, events.JobStalled) and event.doing.startswith("denoise"):
            other.start()

    def take_over() -> None:
        """Another command, on another machine: it waits for the lease, and makes the clip."""
        try:
            run_batch(settings, [SPEC], batches.options(tmp_path, lease_s=1))
        finally:
            tier.go_on.set()

    other = threading.Thread(target=take_over)
    with VideoGenerator(settings, tiers=[tier]) as generator:
        options = batches.options(tmp_path, lease_s=1, silence_s=1.0, lanes=1)
        summary = run_batch(settings, [SPEC], options, tell, generator=generator)
    other.join()
    stalled = [e for e in told if isinstance(e, events.JobStalled) and "denoise" in e.doing]
    assert [event.doing for event in stalled] == ["denoise, 1 of 25"]
    assert stalled[0].silent_s > 1.0
    assert "no sign of life for" in str(_passing(stalled[0]))
    assert [type(event) for event in told if isinstance(event, events.JobLost)] == [events.JobLost]
    assert (summary.made, summary.batch.counts) == (0, {"done": 1})
    assert batches.faults(tmp_path, [SPEC]) == []
    with Catalog(None, settings.media_dir) as catalog:
        (job,) = catalog.jobs.jobs(catalog.jobs.batch("night").id)
    assert job.attempt == 2


def test_a_clip_that_comes_back_to_life_before_anybody_took_it_is_published(
    tmp_path: Path, tier: Hanging
) -> None:
    def tell(event: events.Event) -> None:
        if isinstance(event, events.JobStalled) and event.doing.startswith("denoise"):
            threading.Timer(1.5, tier.go_on.set).start()  # its lease has lapsed by then

    settings = batches.settings(tmp_path)
    with VideoGenerator(settings, tiers=[tier]) as generator:
        options = batches.options(tmp_path, lease_s=1, silence_s=1.0, lanes=1)
        summary = run_batch(settings, [SPEC], options, tell, generator=generator)
    assert (summary.made, summary.exit_status) == (1, 0)
    assert batches.faults(tmp_path, [SPEC]) == []


def test_cancelled_while_a_clip_hangs_it_is_left_and_what_lives_is_given_back(
    tmp_path: Path, tier: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_CANCEL_PATIENCE_S", 0.5)
    control = Control()

    def tell(event: events.Event) -> None:
        if isinstance(event, events.JobStalled) and event.doing.startswith("denoise"):
            control.cancel()

    settings = batches.settings(tmp_path)
    generator = VideoGenerator(settings, tiers=[tier])
    options = batches.options(tmp_path, lease_s=1, silence_s=1.0, lanes=1)
    with pytest.raises(Cancelled, match="does not come back"):
        run_batch(settings, [SPEC], options, tell, control=control, generator=generator)
    with Catalog(None, settings.media_dir) as catalog:
        (job,) = catalog.jobs.jobs(catalog.jobs.batch("night").id)
    assert (job.state, job.attempt) == ("running", 1)  # until its lease ends, or its process


COMMAND = """
import sys; sys.path.insert(0, {tests!r})
import time
from svd_local.testing import FakeTier
from svd_local.batch import run
run._CANCEL_PATIENCE_S = 0.5
def hang(tier, job):
    job.monitor.report("denoise", 1, 25)
    print("hanging", file=sys.stderr, flush=True)
    time.sleep(600)
import svd_local.tiers.fake as fake
fake.FakeTier.generate = hang
from svd_local.cli import run as command
sys.exit(command(sys.argv[1:]))
"""


def test_ctrl_c_twice_ends_a_command_whose_clip_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVD_LOCAL_ENABLE_FAKE_TIER", "1")
    monkeypatch.setenv("SVD_LOCAL_DISK_RESERVE", "1")
    Path("m.jsonl").write_text('{"prompt": "a", "tier": "fake"}')
    code = COMMAND.format(tests=str(Path(__file__).parents[1]))
    words = [sys.executable, "-c", code, "batch", "m.jsonl", "--out", "out", "--workers", "0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if "hanging" in line:
                break
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(30) == 130
    assert "does not come back" in rest
