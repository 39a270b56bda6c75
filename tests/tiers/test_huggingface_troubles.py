"""What the services do to the Hugging Face tier: each ends in time, in the right error, with nothing left."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from servers import troubles
from servers.hub import FILES, HUB, MODEL, ROUTER, Hub
from servers.scripted import Scripted, Trouble, serving

from svd_local.errors import (
    DiskFull,
    RemoteFailed,
    SvdLocalError,
    TierBusy,
    TierUnavailable,
)
from svd_local.tiers.base import Job, Monitor
from svd_local.tiers.huggingface import HuggingFaceTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote.call import Call
from svd_local.tiers.remote.door import Door
from svd_local.tiers.remote.gate import Gate
from svd_local.tiers.remote.pace import Pace

TOKEN = "hf_canary0123456789"
POST, STATUS, RESULT, FILE = (
    "/fal-ai/vendor/motion",
    "/fal-ai/vendor/motion/requests/job-1/status",
    "/fal-ai/vendor/motion/requests/job-1",
    "/result.mp4",
)
DEADLINE_S = 0.4
QUICK = Policy(
    deadline_s=DEADLINE_S,
    tries=3,
    backoff_s=0.01,
    longest_wait_s=0.4,
    max_bytes=4 << 20,
    resend_dropped=False,
)
PATIENT = dataclasses.replace(QUICK, deadline_s=5.0)

JobMaker = Callable[..., Job]


@pytest.fixture(autouse=True)
def _online_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.inference._providers as providers

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(providers.fal_ai, "_POLLING_INTERVAL", 0.01)
    providers._common._fetch_inference_provider_mapping.cache_clear()


@pytest.fixture
def hub(service_video: bytes) -> Iterator[Scripted]:
    with serving(Hub(service_video)) as server:
        yield server
        assert server.quiet()
    until = time.monotonic() + 2
    while _our_threads() and time.monotonic() < until:
        time.sleep(0.01)
    assert _our_threads() == []


def _our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("svd-local")]


def tier_at(server: Scripted, policy: Policy = QUICK, **more: Any) -> HuggingFaceTier:
    route = dict.fromkeys((ROUTER, HUB, FILES), server.url)
    return HuggingFaceTier(TOKEN, True, MODEL, policy=policy, route=route, **more)


def failure(
    server: Scripted, make_job: JobMaker, policy: Policy = PATIENT, monitor: Monitor | None = None
) -> SvdLocalError:
    tier = tier_at(server, policy)
    with pytest.raises(SvdLocalError) as caught:
        tier.generate(make_job(tier, monitor=monitor))
    return caught.value


@pytest.mark.parametrize("path", [f"/api/models/{MODEL}", STATUS, RESULT])
def test_silence_ends_with_the_deadline(
    hub: Scripted, make_job: JobMaker, stopwatch: Any, temp_files: Path, path: str
) -> None:
    hub.meet(path, troubles.hang, always=True)
    with stopwatch:
        error = failure(hub, make_job, QUICK)
    assert isinstance(error, TierBusy)
    assert f"within {DEADLINE_S:g} s" in error.message
    assert stopwatch.seconds < DEADLINE_S + 1


def test_a_job_that_is_never_done_ends_with_the_deadline(
    hub: Scripted, make_job: JobMaker, stopwatch: Any
) -> None:
    hub.dialect.polls = 10**9  # type: ignore[attr-defined]
    with stopwatch:
        error = failure(hub, make_job, QUICK)
    assert isinstance(error, TierBusy)
    assert stopwatch.seconds < DEADLINE_S + 1
    asked = len(hub.asked(STATUS))
    time.sleep(0.1)
    assert len(hub.asked(STATUS)) == asked


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (400, RemoteFailed, "parameters"),
        (401, TierUnavailable, "settings/tokens"),
        (402, TierUnavailable, "credit"),
        (403, TierUnavailable, "licence"),
        (404, TierUnavailable, "SVD_LOCAL_HF_MODEL"),
        (410, TierUnavailable, "withdrawn"),
        (413, RemoteFailed, "smaller"),
        (422, RemoteFailed, "frames, steps or guidance"),
        (500, RemoteFailed, "log"),
    ],
)
def test_what_does_not_pass_is_asked_once(
    hub: Scripted, make_job: JobMaker, code: int, kind: type[SvdLocalError], advice: str
) -> None:
    hub.meet(POST, troubles.status(code, {"error": "because of reasons"}), always=True)
    error = failure(hub, make_job)
    assert type(error) is kind
    assert f"{code}: because of reasons" in error.message
    assert advice in error.hint
    assert error.falls_through
    assert len(hub.asked(POST)) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_a_refusal_that_passes_is_tried_again(hub: Scripted, make_job: JobMaker, code: int) -> None:
    hub.meet(POST, troubles.status(code), troubles.status(code))
    tier = tier_at(hub, PATIENT)
    assert tier.generate(make_job(tier)).count == 9
    assert len(hub.asked(POST)) == 3


@pytest.mark.parametrize("trouble", [troubles.drop, troubles.status(502), troubles.status(504)])
def test_paid_work_is_not_sent_twice_when_it_may_have_begun(
    hub: Scripted, make_job: JobMaker, trouble: Trouble
) -> None:
    hub.meet(POST, trouble)
    assert isinstance(failure(hub, make_job), TierBusy)
    assert len(hub.asked(POST)) == 1


@pytest.mark.parametrize("path", [STATUS, RESULT, FILE])
@pytest.mark.parametrize(
    "trouble", [troubles.drop, troubles.cut, troubles.status(502)], ids=["drop", "cut", "502"]
)
def test_a_look_is_taken_again_without_paying_again(
    hub: Scripted, make_job: JobMaker, path: str, trouble: Trouble
) -> None:
    hub.meet(path, trouble)
    tier = tier_at(hub, PATIENT)
    assert tier.generate(make_job(tier)).count == 9
    assert len(hub.asked(POST)) == 1


def test_three_tries_and_no_more(hub: Scripted, make_job: JobMaker) -> None:
    hub.meet(POST, troubles.status(503), always=True)
    assert isinstance(failure(hub, make_job), TierBusy)
    assert len(hub.asked(POST)) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"retry_after": "0.3"},
        {"ratelimit": '"api";r=0;t=0', "retry_after": "0.3"},
    ],
)
def test_a_short_pause_is_kept(hub: Scripted, make_job: JobMaker, headers: dict[str, str]) -> None:
    hub.meet(POST, troubles.status(429, **headers))
    tier = tier_at(hub, PATIENT)
    tier.generate(make_job(tier))
    first, second = hub.asked(POST)
    assert 0.3 <= second.at - first.at < 1.0


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"retry_after": "90"}, {"error": "slow down"}),
        ({"retry_after": "date"}, {"error": "slow down"}),
        ({"ratelimit": '"api";r=0;t=90'}, {"error": "slow down"}),
        ({}, {"error": "loading", "estimated_time": 90.0}),
    ],
    ids=["seconds", "date", "ratelimit", "loading"],
)
def test_a_long_pause_is_told_not_waited_for(
    hub: Scripted, make_job: JobMaker, headers: dict[str, str], body: Any, stopwatch: Any
) -> None:
    if headers.get("retry_after") == "date":
        headers = {"retry_after": formatdate(time.time() + 90, usegmt=True)}
    hub.meet(POST, troubles.status(503, body, **headers))
    tier = tier_at(hub, PATIENT)
    with stopwatch, pytest.raises(TierBusy) as caught:
        tier.generate(make_job(tier))
    assert caught.value.retry_after_s == pytest.approx(90, abs=2)
    assert stopwatch.seconds < 0.5


def test_a_loading_model_is_waited_for_as_often_as_it_says(
    hub: Scripted, make_job: JobMaker
) -> None:
    loading = troubles.status(503, {"error": "loading", "estimated_time": 0.05})
    hub.meet(POST, *[loading] * 5)
    tier = tier_at(hub, PATIENT)
    assert tier.generate(make_job(tier)).count == 9
    assert len(hub.asked(POST)) == 6


@pytest.mark.parametrize(
    ("path", "trouble", "words"),
    [
        (
            POST,
            troubles.truncated,
            "made nothing with org/motion: it answered 57 bytes that are no",
        ),
        (
            POST,
            troubles.web_page,
            "made nothing with org/motion: it answered a web page, 'Sign in'",
        ),
        (POST, troubles.says(b"\0\0\0\xff" * 9), "it answered 36 bytes that are no JSON"),
        (POST, troubles.says({"error": "out of luck"}), "with org/motion: out of luck"),
        (POST, troubles.says({"a": 1}), "its answer is not as its protocol has it"),
        (STATUS, troubles.web_page, "it answered a web page, 'Sign in'"),
        (RESULT, troubles.says({"video": None}), "its answer lacks"),
        (RESULT, troubles.says([]), "its answer lacks"),
        (FILE, troubles.web_page, "no video: a web page, 'Sign in'"),
        (FILE, troubles.says({"error": "expired"}), "no video: expired"),
        (FILE, troubles.says(b""), "0 bytes that are no video"),
        (FILE, troubles.endless, "larger than 4 MiB"),
        (FILE, troubles.huge, "larger than 4 MiB"),
        (POST, troubles.endless, "larger than 4 MiB"),
        (FILE, troubles.compressed, "compressed"),
        (FILE, troubles.status(404), "404"),
        (f"/api/models/{MODEL}", troubles.web_page, "a web page"),
        (f"/api/models/{MODEL}", troubles.truncated, "no complete JSON"),
    ],
)
def test_rubbish_is_told_from_a_video(
    hub: Scripted,
    make_job: JobMaker,
    temp_files: Path,
    stopwatch: Any,
    path: str,
    trouble: Trouble,
    words: str,
) -> None:
    hub.meet(path, trouble, always=True)
    with stopwatch:
        error = failure(hub, make_job)
    assert words in error.message
    assert isinstance(error, RemoteFailed | TierUnavailable)
    assert stopwatch.seconds < 1.5


@pytest.mark.parametrize(
    "script",
    [
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    ],
    ids=["concat", "hls", "sdp", "svg"],
)
@pytest.mark.parametrize("disguise", [b"", b"\0\0\0\x18ftypisom"], ids=["plain", "disguised"])
def test_a_script_under_a_videos_name_is_no_video(
    hub: Scripted, make_job: JobMaker, temp_files: Path, script: bytes, disguise: bytes
) -> None:
    hub.meet(FILE, troubles.says(disguise + script, "video/mp4"))
    error = failure(hub, make_job)
    assert isinstance(error, RemoteFailed)
    assert "no video" in error.message or "a video that is none" in error.message


def test_half_a_video_is_none(hub: Scripted, make_job: JobMaker, temp_files: Path) -> None:
    whole = hub.dialect.video  # type: ignore[attr-defined]
    hub.meet(FILE, troubles.says(whole[: len(whole) * 2 // 3], "video/mp4"))
    assert isinstance(failure(hub, make_job), RemoteFailed)


class TestWhereItMayGo:
    @pytest.mark.parametrize(
        "result",
        [
            "http://files.example.com/result.mp4",
            "ftp://files.example.com/x",
            "file:///etc/hostname",
            "/etc/passwd",
            "data:video/mp4;base64,AAAAIGZ0eXBpc29t",
            "concat:/etc/hostname|/etc/hosts",
            "subfile,,start,0,end,9,,:/etc/hostname",
            "https://",
            "https://user:word@/x",
            "https:files.example.com",
            "https://[::1/x",
            f"https://{'a' * 70}.example/x",
            "https://a..b/x",
            "https://\u2024/x",
            "",
        ],
    )
    def test_results_are_fetched_over_https_only(
        self, hub: Scripted, make_job: JobMaker, result: str
    ) -> None:
        hub.dialect.result = result  # type: ignore[attr-defined]
        assert isinstance(failure(hub, make_job), RemoteFailed)
        assert hub.asked(FILE) == []

    def test_a_host_of_files_that_cannot_be_reached_is_named(
        self, hub: Scripted, make_job: JobMaker
    ) -> None:
        hub.dialect.result = "https://127.0.0.1:1/result.mp4?key=secret"  # type: ignore[attr-defined]
        error = failure(hub, make_job)
        assert isinstance(error, RemoteFailed)
        assert "127.0.0.1, where Hugging Face leads, cannot be reached" in error.message

    @pytest.mark.parametrize("code", [401, 403, 404, 503])
    def test_a_file_that_is_refused_is_a_job_that_was_paid_for(
        self, hub: Scripted, make_job: JobMaker, code: int
    ) -> None:
        hub.meet(FILE, troubles.status(code, {"error": "expired"}), always=True)
        error = failure(hub, make_job)
        assert type(error) is (TierBusy if code == 503 else RemoteFailed)
        assert error.message == f"{FILES}, where Hugging Face leads, answered {code}: expired"
        assert "paid for" in error.hint
        assert "licence" not in error.hint

    def test_a_result_in_the_users_own_network_is_not_fetched(
        self, hub: Scripted, make_job: JobMaker
    ) -> None:
        hub.dialect.result = hub.url.replace("http", "https") + FILE  # type: ignore[attr-defined]
        error = failure(hub, make_job)
        assert isinstance(error, RemoteFailed)
        assert "private network" in error.message

    def test_a_picture_is_not_sent_on(self, hub: Scripted, make_job: JobMaker) -> None:
        hub.meet(POST, troubles.redirect(f"https://{FILES}/elsewhere", 307))
        assert isinstance(failure(hub, make_job), TierUnavailable)
        assert hub.asked("/elsewhere") == []

    def test_the_token_is_not_sent_on(self, hub: Scripted, make_job: JobMaker) -> None:
        hub.meet(STATUS, troubles.redirect(f"https://{FILES}/elsewhere"))
        assert isinstance(failure(hub, make_job), TierUnavailable)
        assert hub.asked("/elsewhere") == []

    def test_a_download_is_followed(self, hub: Scripted, make_job: JobMaker) -> None:
        hub.meet(FILE, troubles.redirect(f"https://{FILES}/result.mp4?again"))
        tier = tier_at(hub, PATIENT)
        assert tier.generate(make_job(tier)).count == 9
        assert all("authorization" not in seen.headers for seen in hub.asked(FILE))

    def test_a_redirect_that_leads_nowhere_is_told_as_one(
        self, hub: Scripted, make_job: JobMaker
    ) -> None:
        hub.meet(FILE, troubles.redirect("https://127.0.0.1:1/x"), always=True)
        error = failure(hub, make_job)
        assert "https://127.0.0.1:1, where Hugging Face sends requests on," in error.message

    def test_a_circle_ends(self, hub: Scripted, make_job: JobMaker) -> None:
        hub.meet(FILE, troubles.redirect(f"https://{FILES}/result.mp4"), always=True)
        assert "in a circle" in failure(hub, make_job).message


def test_nobody_listening(make_job: JobMaker, service_video: bytes) -> None:
    with serving(Hub(service_video)) as server:
        tier = tier_at(server, PATIENT)
        job = make_job(tier)
    with pytest.raises(TierUnavailable, match="cannot be reached"):
        tier.generate(job)


@pytest.mark.parametrize(
    ("path", "trouble"),
    [
        (POST, troubles.status(401, {"error": f"no such token: {TOKEN}"})),
        (POST, troubles.says(f"odd {TOKEN}".encode())),
        (FILE, troubles.web_page),
        (POST, troubles.hang),
        (STATUS, troubles.drop),
    ],
    ids=["echoed", "odd", "page", "hang", "drop"],
)
def test_the_token_is_never_told(
    hub: Scripted,
    make_job: JobMaker,
    caplog: pytest.LogCaptureFixture,
    path: str,
    trouble: Trouble,
) -> None:
    import traceback

    caplog.set_level(logging.DEBUG)
    hub.meet(path, trouble)
    tier = tier_at(hub)
    told = []
    try:
        told.append(repr(tier.generate(make_job(tier))))
    except SvdLocalError as error:
        told += [error.message, error.hint, "".join(traceback.format_exception(error))]
    text = "\n".join([*told, caplog.text, repr(tier), repr(tier.plan(make_job(tier).request))])
    assert TOKEN not in text
    assert "signed-secret" not in text


def test_a_folder_without_room_is_found_out_before_anything_is_paid_for(
    hub: Scripted, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    error = failure(hub, make_job)
    assert isinstance(error, DiskFull)
    assert "TMPDIR" in error.hint
    assert "MEDIA_DIR" not in error.hint
    assert hub.seen == []


def test_the_turn_comes_when_the_connection_is_there(
    hub: Scripted, make_job: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setting it up may take longer for one process than for the other."""
    slow = iter([0.3, 0.0, 0.3, 0.0])
    connect = socket.create_connection

    def create_connection(*args: Any, **more: Any) -> socket.socket:
        time.sleep(next(slow, 0.0))
        return connect(*args, **more)

    monkeypatch.setattr(socket, "create_connection", create_connection)
    pace = Pace(0.3)
    gate = Gate(who="it", home=("127.0.0.1",), plain_http=True)

    def post() -> None:
        door = Door(Call(9), QUICK, gate, pace)
        with contextlib.suppress(SvdLocalError), contextlib.closing(door):
            door.json("POST", hub.url + POST, {})

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    at = sorted(seen.at for seen in hub.asked(POST))
    assert len(at) == 4
    assert min(later - sooner for sooner, later in pairwise(at)) > 0.25
