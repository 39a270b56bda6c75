"""Ctrl-C, and the supervisor's own death: a process group of its own, as a terminal's is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from svd_local.batch.events import JobBegun, JobDone, JobReleased, Stopping, WorkerStarted
from svd_local.batch.workers.protocol import from_line

ALONE = Path(__file__).parents[2] / "servers" / "night_alone.py"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")


class Terminal:
    def __init__(self, process):
        self.process = process
        self.heard = []

    def until(self, kind):
        """Read on to the next event of ``kind``."""
        for line in self.process.stdout:
            self.heard.append(from_line(line))
            if isinstance(self.heard[-1], kind):
                return self.heard[-1]
        raise AssertionError(f"ended without {kind.__name__}")

    def ctrl_c(self):
        os.killpg(self.process.pid, signal.SIGINT)

    def rest(self):
        self.heard += [from_line(line) for line in self.process.stdout]
        return self.process.wait(30)

    def told(self, kind):
        return [event for event in self.heard if isinstance(event, kind)]


@contextmanager
def started(tmp_path, *prompts, seconds):
    environment = {
        **os.environ,
        "SVD_LOCAL_FAKE_SECONDS": str(seconds),
        "PYTHONPATH": str(ALONE.parents[1]),
    }
    process = subprocess.Popen(
        [sys.executable, str(ALONE), str(tmp_path), *prompts],
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    with process:
        try:
            yield Terminal(process)
        finally:
            process.kill()


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return True
    return state == "Z"  # dead, and only its new parent has not looked yet


def test_ctrl_c_once_finishes_the_clip(night, tmp_path):
    with started(tmp_path, "a", "b", "c", seconds=0.5) as terminal:
        terminal.until(JobBegun)
        terminal.ctrl_c()
        status = terminal.rest()

    assert status == 130
    assert [event.cancelling for event in terminal.told(Stopping)] == [False]
    assert len(terminal.told(JobDone)) == len(night.videos()) == 1
    assert night.states() == {"done": 1, "queued": 2}
    assert night.left() == []


def test_ctrl_c_twice_gives_the_clip_back(night, tmp_path):
    with started(tmp_path, "a", "b", seconds=60) as terminal:
        terminal.until(JobBegun)
        terminal.ctrl_c()
        terminal.until(Stopping)
        terminal.ctrl_c()
        status = terminal.rest()

    assert status == 130
    assert [event.cancelling for event in terminal.told(Stopping)] == [False, True]
    assert len(terminal.told(JobReleased)) == 1
    assert [(job.state, job.attempt) for job in night.jobs()] == [("queued", 0)] * 2
    assert (night.videos(), night.left()) == ([], [])


def test_workers_end_with_a_supervisor_that_is_killed_and_the_next_goes_on(night, tmp_path):
    with started(tmp_path, "a", "b", seconds=3) as terminal:
        worker = terminal.until(WorkerStarted).pid
        terminal.until(JobBegun)
        assert os.getsid(worker) != os.getsid(terminal.process.pid)
        terminal.process.kill()
        deadline = time.monotonic() + 20
        while not gone(worker):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    assert [(job.state, job.attempt) for job in night.jobs()] == [("queued", 0)] * 2

    summary = night.run(["a", "b"])

    assert (summary.exit_status, summary.batch.counts) == (0, {"done": 2})
    assert len(night.videos()) == 2
    assert night.left() == []
