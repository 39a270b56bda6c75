"""What web UIs do to their callers: each ends in time, in the right error, with nothing left behind."""

from __future__ import annotations

import base64
import dataclasses
import io
import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from servers import troubles
from servers.scripted import Exchange, Trouble, serving
from servers.webui import WebUI

from svd_local.errors import (
    Cancelled,
    RemoteFailed,
    SvdLocalError,
    TierBusy,
    TierUnavailable,
)
from svd_local.request import ClipRequest
from svd_local.tiers.base import Job, Monitor
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote import webui_work
from svd_local.tiers.webui import WebUITier

PATIENT = Policy(deadline_s=5.0, tries=3, backoff_s=0.02, longest_wait_s=1.0, max_bytes=4 << 20)
DEADLINE_S = 0.4
QUICK = dataclasses.replace(PATIENT, deadline_s=DEADLINE_S)
WORK = "/sdapi/v1/txt2img"

JobMaker = Callable[..., Job]


def failure(
    trouble: Trouble | None,
    make_job: JobMaker,
    policy: Policy = PATIENT,
    dialect: WebUI | None = None,
    monitor: Monitor | None = None,
) -> tuple[SvdLocalError, int]:
    """The error a clip from words ends in, and how often the work was sent."""
    with serving(dialect or WebUI()) as server:
        tier = WebUITier(server.url, policy=policy)
        job = make_job(tier, image=None, duration=1.0, monitor=monitor)
        if trouble is not None:
            server.meet(WORK, trouble, always=True)
        with pytest.raises(SvdLocalError) as caught:
            tier.generate(job)
        assert server.quiet()
        tries = len(server.asked(WORK))
    until = time.monotonic() + 1
    while _our_threads() and time.monotonic() < until:
        time.sleep(0.01)
    assert _our_threads() == []
    return caught.value, tries


def _our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("svd-local")]


@pytest.mark.parametrize("route", ["options", "version", "scripts"])
def test_a_look_at_a_silent_server_is_short(
    route: str, stopwatch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert webui_work.ANSWER_S <= 2
    monkeypatch.setattr(webui_work, "ANSWER_S", 0.3)
    with serving(WebUI("sdnext")) as server:
        server.meet(f"/sdapi/v1/{route}", troubles.hang, always=True)
        with stopwatch, pytest.raises(TierBusy):
            WebUITier(server.url).plan(ClipRequest(prompt="x"))
    assert stopwatch.seconds < 1.3


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (401, TierUnavailable, "STABLE_DIFFUSION_LOCAL_AUTH"),
        (403, TierUnavailable, "STABLE_DIFFUSION_LOCAL_AUTH"),
        (404, TierUnavailable, "--api"),
        (422, RemoteFailed, "update it"),
        (500, RemoteFailed, "smaller --size"),
    ],
)
def test_what_does_not_pass_is_asked_once(
    code: int, kind: type[SvdLocalError], advice: str, make_job: JobMaker
) -> None:
    error, tries = failure(troubles.status(code), make_job)
    assert type(error) is kind
    assert advice in error.hint
    assert tries == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"error": "OutOfMemoryError", "detail": "", "body": "", "errors": "CUDA out of memory"},
            "500: OutOfMemoryError: CUDA out of memory",
        ),
        ({"detail": "Sampler not found"}, "500: Sampler not found"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "500: field required"),
        (b"Internal Server Error", "500: Internal Server Error"),
        (b"<html><title>502\r\nBad\x1b[31m</title></html>", "500: a web page, '502"),
        (b"x" * 5000, "500: xxx"),
    ],
)
def test_every_dialects_words_are_passed_on_in_short(
    body: Any, words: str, make_job: JobMaker
) -> None:
    error, _ = failure(troubles.status(500, body), make_job)
    assert words in error.message
    assert error.message.isprintable()
    assert len(error.message) < 320


@pytest.mark.parametrize(
    "trouble",
    [
        troubles.status(429),
        troubles.status(502),
        troubles.status(503),
        troubles.status(504),
        troubles.drop,
        troubles.cut,
    ],
    ids=["429", "502", "503", "504", "drop", "cut"],
)
def test_what_passes_is_tried_again(trouble: Trouble, make_job: JobMaker) -> None:
    with serving(WebUI()) as server:
        tier = WebUITier(server.url, policy=PATIENT)
        job = make_job(tier, image=None, duration=1.0)
        server.meet(WORK, trouble, trouble)
        assert tier.generate(job).count == 24
        assert len(server.asked(WORK)) == 3


@pytest.mark.parametrize("asked", ["0", "-5", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_tries_are_apart_even_where_the_server_asks_for_nothing(
    asked: str, make_job: JobMaker
) -> None:
    patient = dataclasses.replace(PATIENT, backoff_s=0.1)
    with serving(WebUI()) as server:
        tier = WebUITier(server.url, policy=patient)
        server.meet(WORK, *[troubles.status(503, retry_after=asked)] * 2)
        tier.generate(make_job(tier, image=None, duration=1.0))
        first, second, third = (seen.at for seen in server.asked(WORK))
    assert second - first >= 0.05
    assert third - second >= 0.1


@pytest.mark.parametrize("trouble", [troubles.status(503), troubles.drop], ids=["503", "drop"])
def test_three_tries_and_no_more(trouble: Trouble, make_job: JobMaker) -> None:
    error, tries = failure(trouble, make_job)
    assert isinstance(error, TierBusy)
    assert tries == 3


def _picture_of(size: tuple[int, int], kind: str = "PNG", level: int = 1) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", size, level).save(buffer, kind)
    return buffer.getvalue()


def _images(*data: bytes) -> Trouble:
    return troubles.says({"images": [base64.b64encode(d).decode() for d in data], "info": "{}"})


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (troubles.truncated, "no complete JSON"),
        (troubles.web_page, "a web page"),
        (troubles.says(b""), "without a picture"),
        (troubles.says({"images": []}), "without a picture"),
        (troubles.says({"error": "OOM", "detail": "no room"}), "without a picture: OOM: no room"),
        (troubles.says({"images": ["%%%"]}), "broken base64"),
        (troubles.says({"images": [None]}), "broken base64"),
        (_images(b"no picture"), "a picture that is none"),
        (_images(_picture_of((64, 64), "BMP")[:300]), "a picture that is none"),
        (_images(_picture_of((6000, 6000))), "a picture that is none"),
        (_images(_picture_of((4800, 4800))), "a picture of 4800x4800"),
        (_images(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), "a picture that is none"),
        (troubles.endless, "larger than 4 MiB"),
        (troubles.huge, "larger than 4 MiB"),
        (troubles.compressed, "compressed"),
    ],
)
def test_rubbish_is_told_from_pictures(
    trouble: Trouble, words: str, make_job: JobMaker, stopwatch: Any
) -> None:
    with stopwatch:
        error, tries = failure(trouble, make_job)
    assert isinstance(error, RemoteFailed)
    assert words in error.message
    assert tries == 1
    assert stopwatch.seconds < 1.5


def test_a_black_picture_is_a_failed_try(make_job: JobMaker) -> None:
    black = _images(_picture_of((64, 64), level=0))
    error, tries = failure(black, make_job)
    assert isinstance(error, RemoteFailed)
    assert "all black, twice" in error.message
    assert "--no-half-vae" in error.hint
    assert tries == 2
    with serving(WebUI()) as server:
        tier = WebUITier(server.url, policy=PATIENT)
        server.meet(WORK, black)
        assert tier.generate(make_job(tier, image=None, duration=1.0)).count == 24
        server.meet("*img2img", black, black)  # of a picture that is not black
        with pytest.raises(RemoteFailed, match="picture 2 of 2 all black"):
            tier.generate(make_job(tier, duration=2.0))


def test_a_black_video_is_a_failed_try(make_job: JobMaker) -> None:
    with serving(WebUI("sdnext")) as server:
        tier = WebUITier(server.url, policy=PATIENT)
        black = [_picture_of((64, 64), level=0)] * 14
        server.meet("*img2img", _images(*black), always=True)
        with pytest.raises(RemoteFailed, match="frames all black, twice"):
            tier.generate(make_job(tier, frames=14))


def test_only_the_pictures_that_were_asked_for_are_opened(make_job: JobMaker) -> None:
    many = _images(_picture_of((64, 64)), *[b"no picture"] * 2000)
    with serving(WebUI()) as server:
        tier = WebUITier(server.url, policy=PATIENT)
        server.meet(WORK, many)
        assert tier.generate(make_job(tier, image=None, duration=1.0)).count == 24


@pytest.mark.parametrize("status", [401, 500, 503])
def test_a_refusal_without_end_is_cut(status: int, make_job: JobMaker, stopwatch: Any) -> None:
    def endless(exchange: Exchange) -> None:
        exchange.head(status, {"connection": "close"})
        exchange.handler.close_connection = True
        while not exchange.server.closing.is_set():
            exchange.write(b"no " * 10**5)

    with stopwatch:
        error, _ = failure(endless, make_job)
    assert f"{status}: no no no" in error.message
    assert stopwatch.seconds < 2


def test_a_servers_words_hold_nothing_a_terminal_obeys() -> None:
    with serving(WebUI()) as server:
        named = "x\x1b]0;title\x07\x1b[31m" + "y" * 10**6
        server.meet("/sdapi/v1/options", troubles.says({"sd_model_checkpoint": named}))
        checkpoint = WebUITier(server.url).plan(ClipRequest(prompt="x")).checkpoint
    assert checkpoint is not None
    assert checkpoint.isprintable()
    assert len(checkpoint) <= 240


def test_work_is_not_sent_on(make_job: JobMaker) -> None:
    with serving(WebUI()) as other:
        error, _ = failure(troubles.redirect(other.url + WORK, 307), make_job)
        assert other.seen == []
    assert isinstance(error, TierUnavailable)


@pytest.mark.parametrize("kind", ["automatic1111", "forge", "sdnext"])
def test_cancel_stops_the_server_too(kind: Any, make_job: JobMaker, stopwatch: Any) -> None:
    at = time.monotonic() + 0.4
    dialect = WebUI(kind, seconds=5)
    with stopwatch:
        error, _ = failure(
            None,
            make_job,
            dialect=dialect,
            monitor=Monitor(cancelled=lambda: time.monotonic() > at),
        )
    assert isinstance(error, Cancelled)
    assert dialect.interrupted.is_set()
    assert stopwatch.seconds < 1.2
    assert stopwatch.cpu_s < 0.5


def test_a_deadline_stops_the_server_too(make_job: JobMaker) -> None:
    dialect = WebUI(seconds=5)
    error, _ = failure(None, make_job, QUICK, dialect)
    assert isinstance(error, TierBusy)
    assert dialect.interrupted.is_set()


def test_a_server_that_refused_the_work_is_not_interrupted(make_job: JobMaker) -> None:
    dialect = WebUI()
    failure(troubles.status(500), make_job, dialect=dialect)
    assert not dialect.interrupted.is_set()


def test_an_interrupt_that_hangs_does_not_hold_up_leaving(
    make_job: JobMaker, stopwatch: Any
) -> None:
    with serving(WebUI(seconds=5)) as server:
        server.meet("/sdapi/v1/interrupt", troubles.hang, always=True)
        tier = WebUITier(server.url, policy=PATIENT)
        at = time.monotonic() + 0.2
        monitor = Monitor(cancelled=lambda: time.monotonic() > at)
        job = make_job(tier, image=None, duration=1.0, monitor=monitor)
        with stopwatch, pytest.raises(Cancelled):
            tier.generate(job)
    assert stopwatch.seconds < 1.2


def test_the_password_is_never_told(make_job: JobMaker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    password = "canary-password"
    auth = f"user:{password}"
    coded = base64.b64encode(auth.encode()).decode()
    told = []
    with serving(WebUI(auth=auth)) as server:
        address = server.url.replace("//", f"//{auth}@")
        tier = WebUITier(address, policy=QUICK)
        job = make_job(tier, image=None, duration=1.0)
        for trouble in (
            troubles.status(500, {"detail": f"{auth} {coded} {password}"}),
            troubles.web_page,
            troubles.drop,
            troubles.hang,
        ):
            server.meet(WORK, trouble)
            try:
                told.append(repr(tier.generate(job)))
            except SvdLocalError as error:
                told += [error.message, error.hint, "".join(traceback.format_exception(error))]
        for spoken in (auth, f"Basic {coded}", password):
            server.meet("/sdapi/v1/options", troubles.says({"sd_model_checkpoint": f"x {spoken}"}))
            plan = WebUITier(address, policy=QUICK).plan(job.request)
            assert plan.checkpoint is not None
            told.append(repr(plan))
        told += [repr(tier), repr(job.plan), repr(tier.availability())]
    text = "\n".join([*told, caplog.text])
    assert password not in text
    assert coded not in text
    assert "***" in text


def test_what_the_tier_adds_to_the_bare_exchange(make_job: JobMaker) -> None:
    """Under 50 ms a clip, beside the pictures themselves: measured against the fastest of many."""
    with serving(WebUI("sdnext")) as server:
        server.meet("/sdapi/v1/img2img", _images(*[_picture_of((128, 72))] * 2), always=True)
        tier = WebUITier(server.url, policy=PATIENT)
        job = make_job(tier, frames=14)
        times = []
        for _ in range(8):
            begun = time.perf_counter()
            tier.generate(job)
            times.append(time.perf_counter() - begun)
    assert min(times) < 0.05
