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
from svd_local.tiers.remote import webui_work
from svd_local.tiers.remote.webui_api import Doing, History
from svd_local.tiers.remote.webui_whose import Look, cut_short
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


def cancelled_after(
    seconds: float, server: Scripted, make_job: JobMaker, requests: int
) -> Cancelled:
    """Cancel a clip once the server has seen so many requests for work, and a moment has passed."""
    at: list[float] = []

    def stop() -> bool:
        if not at and len(server.asked("*2img")) >= requests:
            at.append(time.monotonic() + seconds)
        return bool(at) and time.monotonic() > at[0]

    tier = WebUITier(server.url, policy=PATIENT)
    job = make_job(tier, image=None, duration=1.0, monitor=Monitor(cancelled=stop))
    with pytest.raises(Cancelled) as caught:
        tier.generate(job)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "turns_away", "old"),
    [
        ("sdnext", True, False),
        ("automatic1111", False, False),
        ("forge", False, False),
        ("automatic1111", False, True),
        ("sdnext", False, False),
    ],
    ids=["turned away", "in line", "in Forge's", "in one that names no jobs", "in SD.Next's"],
)
def test_a_clip_that_only_waits_stops_nobodys_job(
    kind: Kind, turns_away: bool, old: bool, make_job: JobMaker
) -> None:
    dialect = WebUI(kind, seconds=0.5, turns_away=turns_away, old=old)
    dialect.lists_scripts = False
    with serving(dialect) as server:
        other = Other(server, make_job)
        stopped = cancelled_after(0.15, server, make_job, 2)
        assert not dialect.interrupted.is_set()
        assert other.wait() == 24
    assert ("may be somebody else's" in stopped.hint) == (not turns_away)


def test_nor_where_the_server_looks_idle_between_the_parts_of_a_job(make_job: JobMaker) -> None:
    dialect = WebUI("sdnext", seconds=0.5)
    dialect.lists_scripts, dialect.lull = False, True
    with serving(dialect) as server:
        other = Other(server, make_job)
        cancelled_after(0.15, server, make_job, 2)
        assert not dialect.interrupted.is_set()
        assert other.wait() == 24


@pytest.mark.parametrize("trouble", [troubles.status(500), troubles.hang], ids=["500", "hang"])
def test_nor_where_the_server_does_not_say_whose_job_it_is(
    trouble: Trouble, make_job: JobMaker
) -> None:
    dialect = WebUI(seconds=9)
    with serving(dialect) as server:
        server.meet("/sdapi/v1/progress", trouble, always=True)
        stopped = cancelled_after(0.1, server, make_job, 1)
        assert not dialect.interrupted.is_set()
        dialect._post_interrupt(None)
    assert "may go on" in stopped.hint


def test_a_deadline_that_passes_in_line_stops_nothing(make_job: JobMaker) -> None:
    dialect = WebUI("sdnext", seconds=0.9)
    dialect.lists_scripts = False
    with serving(dialect) as server:
        other = Other(server, make_job)
        tier = WebUITier(server.url, policy=PATIENT, deadline_s=0.3)
        with pytest.raises(TierBusy, match="not done within") as late:
            tier.generate(make_job(tier, image=None, duration=1.0))
        assert not dialect.interrupted.is_set()
        assert other.wait() == 24
    assert "may be somebody else's" in late.value.hint


def test_a_job_is_not_ours_that_began_once_ours_was_done(make_job: JobMaker) -> None:
    """As where the answer is still on its way."""
    first = {"id": "a", "job": "api-txt", "op": "begin"}
    history = [
        first,
        {**first, "op": "end"},
        {**first, "id": "b"},
        {**first, "id": "b", "op": "end"},
    ]
    before, after = History.parse(history[:2]), History.parse([*history, {**first, "id": "c"}])
    assert not after.only_one_since(before)
    assert History.parse(history[:3]).only_one_since(before)
    assert not History.parse(history).only_one_since(before)  # it is over
    loading = {"id": "l", "job": "load model", "op": "begin"}
    loaded = [*history[:2], loading, {**loading, "op": "end"}]
    assert History.parse([*loaded, history[2]]).only_one_since(before)
    assert History.parse(loaded[:3]).running
    assert not History.parse(history[2:3]).only_one_since(before)  # what was before is forgotten


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


@pytest.mark.parametrize(
    ("kind", "old"), [("automatic1111", False), ("automatic1111", True), ("sdnext", False)]
)
def test_our_own_job_is_stopped(kind: Kind, old: bool, make_job: JobMaker) -> None:
    dialect = WebUI(kind, seconds=9, old=old)
    dialect.lists_scripts = False
    with serving(dialect) as server:
        stopped = cancelled_after(0.1, server, make_job, 1)
    assert dialect.interrupted.is_set()
    assert stopped.hint == ""


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


def looks(*steps: int, total: int = 20, run: str = "a", begun: float = 0.0) -> list[Look]:
    """A job seen twice a second."""
    return [
        Look(begun + 0.5 * number, Doing(done, total, run=run))
        for number, done in enumerate(steps, 1)
    ]


CUT, WHOLE = looks(1, 2, 3, 5), looks(5, 10, 15, 19)
NEXT = looks(0, run="b", begun=1.8)


@pytest.mark.parametrize(
    ("seen", "answered", "at"),
    [
        (CUT, 2.1, 5),
        (CUT + NEXT, 2.5, 5),
        (WHOLE, 2.1, None),
        (WHOLE + NEXT, 2.5, None),
        (looks(5, 10), 1.1, None),
        (looks(0, 0, 0, 8, 16), 2.8, None),
        (CUT + looks(4, 9, 14, run="b", begun=2.0), 4.0, None),
        (CUT + looks(4, run="b", begun=2.0), 4.0, None),
        ([], 2.0, None),
    ],
    ids=[
        "cut",
        "cut, and the next job has begun",
        "whole",
        "whole, and the next job has begun",
        "seen too seldom",
        "slow to begin",
        "somebody else's was cut before it",
        "somebody else's was cut before it, and it was quick",
        "not seen",
    ],
)
def test_a_job_that_ends_long_before_its_steps_are_done_was_cut(
    seen: list[Look], answered: float, at: int | None
) -> None:
    found = cut_short(seen, "ours", answered)
    assert (None if found is None else found.seen.done) == at
    assert found is None or found.sure


@pytest.mark.parametrize("total", [2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("phase", [0.05, 0.2, 0.35, 0.49])
@pytest.mark.parametrize("step_s", [0.3, 0.6, 0.9, 1.2])
def test_few_steps_that_are_counted_late_are_whole(total: int, phase: float, step_s: float) -> None:
    """A count of 0 during the first step, and never the last one; seen twice a second till the answer."""
    over = total * step_s + 0.05
    at = [phase + 0.5 * number for number in range(100) if phase + 0.5 * number < over]
    seen = [Look(when, Doing(min(int(when / step_s), total - 1), total)) for when in at]
    assert cut_short(seen, "ours", over) is None


def test_what_may_have_been_cut_is_kept_and_doubted(
    make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cut_short(looks(2, 4, 6, 8), "ours", 2.1)
    assert found is not None
    assert not found.sure
    monkeypatch.setattr(webui_work, "cut_short", lambda *_: found)
    dialect = WebUI(seconds=0.7)
    with serving(dialect) as server:
        tier = WebUITier(server.url, policy=PATIENT)
        warnings = tier.generate(make_job(tier, image=None, duration=1.0)).warnings
    assert [text.partition(" may ")[2] for text in warnings] == [
        "have been interrupted at picture 1 of 1, at step 8 of 20: look whether it is whole"
    ]


@pytest.mark.parametrize("kind", ["automatic1111", "sdnext"])
def test_a_picture_is_none_where_the_next_job_made_the_server_forget(
    kind: Kind, make_job: JobMaker
) -> None:
    dialect = WebUI(kind, seconds=9)
    dialect.lists_scripts = False
    with serving(dialect) as server:
        other = Other(server, make_job)
        time.sleep(1.9)
        dialect.forgets = True
        dialect._post_interrupt(None)
        came = other.wait()
    assert isinstance(came, TierBusy)
    assert "of 20: it is not whole" in came.message
