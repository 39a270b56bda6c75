"""Every trouble, for every protocol: in time, in the right outcome, with nothing left behind.

One table. A row is what a service does; its columns are what becomes of the clip where the hub does it
(to the job, to the finished file), where a web UI does it to the work, and where whatever listens at the
web UI's address does it from the first question on.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from servers import troubles
from servers.hub import FILES, HUB, MODEL, ROUTER, Hub
from servers.scripted import Dialect, Scripted, Trouble, serving
from servers.webui import Kind, WebUI

from svd_local.errors import RemoteFailed, SvdLocalError, TierUnavailable
from svd_local.generator import VideoGenerator
from svd_local.settings import Settings
from svd_local.tiers.base import Tier
from svd_local.tiers.huggingface import HuggingFaceTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote import webui_work
from svd_local.tiers.webui import WebUITier

DEADLINE_S = 0.25
"""Where it is to pass; what ends by itself has longer, for the sake of slow machines."""
LONGER_S = 5.0
POLICY = Policy(deadline_s=LONGER_S, tries=2, backoff_s=0.01, longest_wait_s=0.3, max_bytes=4 << 20)

Outcome = Literal["ok", "busy", "unavailable", "failed"]
_ERRORS: dict[Outcome, type[SvdLocalError]] = {
    "unavailable": TierUnavailable,
    "failed": RemoteFailed,
}

_NO_PICTURE = {"images": ["aGVsbG8="], "info": "{}"}
_SCRIPT = b"ffconcat version 1.0\nfile /etc/hostname\n"
_ELSEWHERE = troubles.redirect("https://127.0.0.1:1/x")

# name: (trouble, the hub's job, the hub's file, a web UI's work, a web UI's first answer)
TABLE: dict[str, tuple[Trouble, Outcome, Outcome, Outcome, Outcome]] = {
    "a little slow": (troubles.slow(0.05), "ok", "ok", "ok", "ok"),
    "too slow": (troubles.slow(9), "busy", "busy", "busy", "busy"),
    "drips bytes": (troubles.drip, "busy", "busy", "busy", "busy"),
    "hangs for ever": (troubles.hang, "busy", "busy", "busy", "busy"),
    "throttles": (troubles.status(429, retry_after="60"), "busy", "busy", "busy", "busy"),
    "loads a model": (
        troubles.status(503, {"error": "loading", "estimated_time": 60}),
        *("busy", "busy", "busy", "busy"),
    ),
    "drops": (troubles.drop, "busy", "busy", "busy", "busy"),
    "cuts off": (troubles.cut, "busy", "busy", "busy", "busy"),
    "redirects": (_ELSEWHERE, "unavailable", "failed", "unavailable", "unavailable"),
    "redirects to no address": (troubles.redirect("https://[::1/x"), *["failed"] * 4),
    "redirects to nowhere": (troubles.redirect(""), *["failed"] * 4),
    "answers HTML": (troubles.web_page, "failed", "failed", "failed", "failed"),
    "truncates JSON": (troubles.truncated, "failed", "failed", "failed", "failed"),
    "sends bad base64": (
        troubles.says({"images": ["%%%"], "data": [{"b64_json": "%%%"}]}),
        *("failed", "failed", "failed", "ok"),
    ),
    "says it failed, with 200": (
        troubles.says({"error": "out of memory", "detail": "no room"}),
        *("failed", "failed", "failed", "ok"),
    ),
    "sends no video": (troubles.says(_SCRIPT, "video/mp4"), "failed", "failed", "failed", "failed"),
    "sends no picture": (troubles.says(_NO_PICTURE), "failed", "failed", "failed", "ok"),
    "announces 4 GB": (troubles.huge, "failed", "failed", "failed", "failed"),
    "never ends": (troubles.endless, "failed", "failed", "failed", "failed"),
    "compresses": (troubles.compressed, "failed", "failed", "failed", "failed"),
    "refuses the key": (
        troubles.status(401),
        *("unavailable", "failed", "unavailable", "unavailable"),
    ),
    "has nothing there": (
        troubles.status(404),
        *("unavailable", "failed", "unavailable", "unavailable"),
    ),
    "has a bug": (troubles.status(500), "failed", "failed", "failed", "failed"),
}
"""A web UI's first answer that is any JSON object is taken for one of ``other`` make: ``ok``."""

_UIS: tuple[Kind, ...] = ("automatic1111", "forge", "sdnext")
CELLS = [
    *((name, "hub", "/fal-ai/vendor/motion", row[1]) for name, row in TABLE.items()),
    *((name, "hub", "/result.mp4", row[2]) for name, row in TABLE.items()),
    *((name, kind, "/sdapi/v1/*2img", row[3]) for kind in _UIS for name, row in TABLE.items()),
    *((name, "neither", "/sdapi/v1/options", row[4]) for name, row in TABLE.items()),
]


@pytest.fixture(autouse=True)
def _online_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.inference._providers as providers

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(providers.fal_ai, "_POLLING_INTERVAL", 0.01)
    monkeypatch.setattr(webui_work, "ANSWER_S", DEADLINE_S)
    providers._common._fetch_inference_provider_mapping.cache_clear()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One media root for all cells: setting up a catalog takes longer than most of them."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """What is loaded once a process is no part of a clip's time."""
    import PIL.Image
    from huggingface_hub import InferenceClient

    from svd_local.tiers.remote.hub import through
    from svd_local.tiers.remote.library import trust

    assert InferenceClient
    assert through
    assert trust()
    PIL.Image.init()


def dialect_of(service: str, video: bytes) -> Dialect:
    if service == "hub":
        return Hub(video)
    return WebUI("automatic1111" if service == "neither" else service)  # type: ignore[arg-type]


def tier_at(service: str, server: Scripted, deadline_s: float) -> Tier:
    policy = dataclasses.replace(POLICY, deadline_s=deadline_s)
    if service == "hub":
        route = dict.fromkeys((ROUTER, HUB, FILES), server.url)
        paid = dataclasses.replace(policy, resend_dropped=False)
        return HuggingFaceTier("hf_x", True, MODEL, policy=paid, route=route)
    return WebUITier(server.url, "user:secret", policy=policy)


def sockets() -> int:
    """Open sockets of this process."""
    count = 0
    for handle in Path("/proc/self/fd").iterdir():
        try:
            count += str(handle.readlink()).startswith("socket:")
        except OSError:  # the handle of this very look
            continue
    return count


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(("svd-local", "ffmpeg"))]


def comes_true(condition: Callable[[], bool], within_s: float = 2.0) -> bool:
    until = time.monotonic() + within_s
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return condition()


def written(media: Path) -> set[Path]:
    return {path for path in media.rglob("*") if path.is_file() and ".sqlite3" not in path.name}


@pytest.fixture
def nothing_stays(temp_files: Path) -> Iterator[None]:
    before = sockets()
    yield
    assert comes_true(lambda: not our_threads()), our_threads()
    assert comes_true(lambda: sockets() <= before)


@pytest.mark.parametrize(
    ("trouble", "service", "path", "outcome"),
    CELLS,
    ids=[f"{service}{path}: {name}" for name, service, path, _ in CELLS],
)
@pytest.mark.usefixtures("nothing_stays")
def test_every_trouble_of_every_service(
    trouble: str, service: str, path: str, outcome: Outcome, media: Path, service_video: bytes
) -> None:
    before, deadline_s = written(media), DEADLINE_S if outcome == "busy" else LONGER_S
    with serving(dialect_of(service, service_video)) as server:
        tier = tier_at(service, server, deadline_s)
        server.meet(path, TABLE[trouble][0], always=True)
        with VideoGenerator(Settings.load(media_dir=media), tiers=[tier]) as generator:
            begun = time.monotonic()
            clip: dict[str, Any] = {}
            error: SvdLocalError | None = None
            try:
                made = generator.generate(prompt="x", size=(128, 72), duration=1.0, tier=tier.id)
                clip = made.to_json()
            except SvdLocalError as caught:
                error = caught
            seconds = time.monotonic() - begun
        assert server.quiet()
    new = written(media) - before
    for file in new:
        file.unlink()
    if outcome == "ok":
        assert clip["kind"] in ("generated", "animated-stills")
        return
    assert seconds < deadline_s + 1
    if outcome == "busy":
        assert error is None
        assert clip["attempts"][-1]["outcome"] == "busy"
        assert [file.name[:20] for file in new] == ["enhanced_placeholder"]
        asks_for_60 = trouble in ("throttles", "loads a model")
        assert clip["attempts"][-1]["retry_after_s"] == (60 if asks_for_60 else None)
        return
    assert error is not None, clip
    assert type(error) is _ERRORS[outcome]
    assert error.falls_through
    assert error.hint
    assert new == set()


def test_the_table_leaves_nothing_out() -> None:
    """Each dialect and the hub's protocol meet each trouble that the servers know."""
    assert len(CELLS) == len(set(CELLS)) == len(TABLE) * 6
    used = {trouble for trouble, *_ in TABLE.values()}
    plain = {
        getattr(troubles, name) for name in ("hang", "drip", "drop", "cut", "endless", "huge")
    } | {troubles.truncated, troubles.web_page, troubles.compressed}
    assert plain <= used
