"""Whose job is stopped: only our own, and a picture that somebody stopped is no picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from servers import troubles
from servers.scripted import Scripted, Trouble, serving
from servers.webui import Kind, WebUI

from svd_local.errors import Cancelled, SvdLocalError, TierBusy
from svd_local.tiers.base import Job, Monitor
from svd_local.tiers.policy import Policy
from svd_local.tiers.webui import WebUITier

PATIENT = Policy(deadline_s=60.0, tries=9, backoff_s=0.3, longest_wait_s=100.0)

JobMaker = Callable[..., Job]


class Other:
    """Somebody else's clip on the same server."""

    def __init__(self, server: Scripted, make_job: JobMaker) -> None:
        tier = WebUITier(server.url, policy=PATIENT)
        job = make_job(tier, image=None, duration=1.0, seed=2)
        self._thread = threading.Thread(target=self._make, args=(tier, job))
        self.came: Any = None
        self._thread.start()
        while not server.asked("*2img"):
            time.sleep(0.01)

    def _make(self, tier: WebUITier, job: Job) -> None:
        try:
            self.came = tier.generate(job).count
        except SvdLocalError as error:
            self.came = error

    def wait(self) -> Any:
        self._thread.join()
        return self.came


def cancelled_after(seconds: float, server: Scripted, make_job: JobMaker, requests: int) -> None:
    """Cancel a clip once the server has seen so many requests for work, and a moment has passed."""
    at: list[float] = []

    def stop() -> bool:
        if not at and len(server.asked("*2img")) >= requests:
            at.append(time.monotonic() + seconds)
        return bool(at) and time.monotonic() > at[0]

    tier = WebUITier(server.url, policy=PATIENT)
    job = make_job(tier, image=None, duration=1.0, monitor=Monitor(cancelled=stop))
    with pytest.raises(Cancelled):
        tier.generate(job)


@pytest.mark.parametrize(
    ("kind", "turns_away"),
    [("sdnext", True), ("automatic1111", False), ("forge", False)],
    ids=["turned away", "in line", "in Forge's line"],
)
def test_a_clip_that_only_waits_stops_nobodys_job(
    kind: Kind, turns_away: bool, make_job: JobMaker
) -> None:
    dialect = WebUI(kind, seconds=1.0, turns_away=turns_away)
    dialect.lists_scripts = False
    with serving(dialect) as server:
        other = Other(server, make_job)
        cancelled_after(0.15, server, make_job, 2)
        assert not dialect.interrupted.is_set()
        assert other.wait() == 24


@pytest.mark.parametrize(
    "trouble",
    [
        troubles.status(429, retry_after="50"),
        troubles.status(503, {"estimated_time": 50}),
        troubles.status(503),
        troubles.drop,
    ],
    ids=["throttled", "loading", "busy", "dropped"],
)
def test_a_clip_that_was_refused_stops_nothing(trouble: Trouble, make_job: JobMaker) -> None:
    dialect = WebUI()
    with serving(dialect) as server:
        server.meet("*2img", trouble, always=True)
        cancelled_after(0.1, server, make_job, 1)
    assert not dialect.interrupted.is_set()


@pytest.mark.parametrize("old", [False, True])
def test_our_own_job_is_stopped(old: bool, make_job: JobMaker) -> None:
    dialect = WebUI(seconds=9, old=old)
    with serving(dialect) as server:
        cancelled_after(0.1, server, make_job, 1)
    assert dialect.interrupted.is_set()


@pytest.mark.parametrize("kind", ["automatic1111", "forge", "sdnext"])
def test_a_picture_that_somebody_stopped_is_none(kind: Kind, make_job: JobMaker) -> None:
    dialect = WebUI(kind, seconds=9)
    dialect.lists_scripts = False
    with serving(dialect) as server:
        other = Other(server, make_job)
        time.sleep(0.6)
        dialect._post_interrupt(None)
        came = other.wait()
    assert isinstance(came, TierBusy)
    assert "interrupted" in came.message


def test_a_picture_after_one_that_was_stopped_is_whole(make_job: JobMaker) -> None:
    dialect = WebUI(seconds=0.7)
    with serving(dialect) as server:
        dialect._post_interrupt(None)
        assert Other(server, make_job).wait() == 24
