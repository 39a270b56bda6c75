"""Finding out what answers: with the patience that work has, within the clip's deadline."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import troubles
from servers.scripted import Trouble, serving
from servers.webui import SVD_SCRIPT, WebUI

from svd_local.errors import Cancelled, RemoteFailed, TierBusy, TierUnavailable
from svd_local.request import ClipRequest
from svd_local.tiers import webui
from svd_local.tiers.base import Job, Monitor
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote import webui_work
from svd_local.tiers.webui import WebUITier

PATIENT = Policy(deadline_s=5.0, tries=3, backoff_s=0.02, longest_wait_s=1.0)
WORDS = ClipRequest(prompt="x")

JobMaker = Callable[..., Job]


@pytest.mark.parametrize("route", ["options", "version", "scripts"])
@pytest.mark.parametrize(
    "trouble",
    [
        troubles.status(429, retry_after="0.1"),
        troubles.status(503, {"estimated_time": 0.1}),
        troubles.status(503),
        troubles.drop,
    ],
    ids=["429", "loading", "503", "drop"],
)
def test_what_passes_is_waited_for(route: str, trouble: Trouble) -> None:
    with serving(WebUI("sdnext")) as server:
        server.meet(f"*/{route}", trouble, trouble)
        plan = WebUITier(server.url, policy=PATIENT).plan(WORDS)
    assert plan.kind == "generated"
    assert plan.parameters["script"] == SVD_SCRIPT.lower()
    assert plan.warnings == ()


@pytest.mark.parametrize(
    ("route", "trouble", "words"),
    [
        ("scripts", troubles.status(500), "which scripts it has"),
        ("scripts", troubles.status(404), "which scripts it has"),
        ("version", troubles.web_page, "whether it is SD.Next"),
    ],
)
def test_less_than_the_best_is_told(route: str, trouble: Trouble, words: str) -> None:
    with serving(WebUI("sdnext")) as server:
        server.meet(f"*/{route}", trouble)
        plan = WebUITier(server.url, policy=PATIENT).plan(WORDS)
    assert plan.kind == "animated-stills"
    assert words in plan.warnings[0]


def test_a_busy_server_is_asked_again_when_it_said() -> None:
    with serving(WebUI()) as server:
        server.meet("*/options", *[troubles.status(429, retry_after="0.3")] * 3)
        tier = WebUITier(server.url, policy=PATIENT)
        with pytest.raises(TierBusy) as first:
            tier.plan(WORDS)
        assert (first.value.unasked, first.value.retry_after_s) == (False, 0.3)
        with pytest.raises(TierBusy) as second:
            tier.plan(WORDS)
        assert second.value.unasked
        assert second.value.retry_after_s is not None
        time.sleep(second.value.retry_after_s + 0.1)
        assert tier.plan(WORDS)
        assert len(server.asked("*/options")) == 4


def test_one_caller_asks_and_the_others_hear_it() -> None:
    with serving(WebUI("sdnext")) as server:
        server.meet("*/options", troubles.slow(0.3))
        tier = WebUITier(server.url, policy=PATIENT)
        threads = [threading.Thread(target=tier.plan, args=(WORDS,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        with pytest.raises(Cancelled):
            tier.plan(WORDS, Monitor(cancelled=lambda: True))
        assert time.monotonic() - begun < 0.25
        for thread in threads:
            thread.join()
        assert len(server.asked("*/options")) == 1


def test_it_counts_within_the_clips_deadline(
    make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webui_work, "ANSWER_S", 5.0)
    with serving(WebUI()) as server:
        server.meet("*/options", troubles.slow(0.6))
        server.meet("*2img", troubles.hang)
        tier = WebUITier(server.url, policy=dataclasses.replace(PATIENT, deadline_s=1.0))
        begun = time.monotonic()
        job = make_job(tier, image=None, duration=1.0)
        assert job.plan.spent_s >= 0.6
        with pytest.raises(TierBusy, match="within 1 s"):
            tier.generate(job)
        assert time.monotonic() - begun < 1.5


def test_a_pause_is_one_servers_own(make_job: JobMaker, tmp_path: Path) -> None:
    with serving(WebUI()) as one, serving(WebUI()) as other:
        one.meet("*2img", troubles.status(429, retry_after="86400"), always=True)
        tier = WebUITier(one.url, policy=PATIENT, paces=tmp_path)
        job = make_job(tier, image=None, duration=1.0)
        with pytest.raises(TierBusy) as caught:
            tier.generate(job)
        assert caught.value.retry_after_s == 86400
        again = WebUITier(one.url, policy=PATIENT, paces=tmp_path)
        with pytest.raises(TierBusy) as caught:
            again.generate(job)
        assert caught.value.retry_after_s == pytest.approx(600, abs=2)
        elsewhere = WebUITier(other.url, policy=PATIENT, paces=tmp_path)
        assert elsewhere.generate(make_job(elsewhere, image=None, duration=1.0)).count == 24


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (500, RemoteFailed, "own log"),
        (451, TierUnavailable, "where you are"),
        (422, RemoteFailed, "Update"),
    ],
)
def test_the_hints_are_those_of_a_question(code: int, kind: type, words: str) -> None:
    with serving(WebUI()) as server:
        server.meet("*/options", troubles.status(code))
        with pytest.raises(kind) as caught:
            WebUITier(server.url, policy=PATIENT).plan(WORDS)
    assert words in caught.value.hint  # type: ignore[attr-defined]
    assert "--size" not in caught.value.hint  # type: ignore[attr-defined]


def test_a_redirect_that_leads_nowhere_is_named_as_what_it_is() -> None:
    with serving(WebUI()) as server:
        server.meet("*/options", troubles.redirect("https://127.0.0.1:1/x"), always=True)
        with pytest.raises(TierUnavailable) as caught:
            WebUITier(server.url, policy=PATIENT).plan(WORDS)
        where = f"https://127.0.0.1:1, where the web UI at {server.url} sends requests on,"
    assert caught.value.message.startswith(f"{where} cannot be reached")


def test_what_is_remembered_is_bounded() -> None:
    assert webui._REMEMBERED_S <= 30
