"""Bytes no service should send, at any place of the protocols: only our errors come of them, in time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest
from servers.hub import FILES, HUB, MODEL, PAINTER, ROUTER, Hub
from servers.scripted import Dialect, Exchange, serving
from servers.webui import Kind, WebUI

from svd_local.errors import SvdLocalError
from svd_local.keyframe.types import Keyframe
from svd_local.request import ClipRequest
from svd_local.tiers.base import Job, Monitor, Tier
from svd_local.tiers.huggingface import HuggingFaceTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote import webui_work
from svd_local.tiers.webui import WebUITier

POLICY = Policy(
    deadline_s=1.0,
    tries=2,
    backoff_s=0.01,
    longest_wait_s=0.1,
    max_bytes=1 << 20,
    resend_dropped=False,
)
ROUNDS = 30

_OK = b"HTTP/1.1 200 OK\r\n"
_HEADS = [
    b"HTTP/1.1 200\r\n",
    b"HTTP/2 200\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + _OK,
    b"HTTP/1.1 999 X\r\n",
    b"HTTP/1.1 204 No\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n",
    b"\x00\xff\xfe",
    b"ICY 200 OK\r\n",
    b"HTTP/1.1 302 F\r\nLocation: //\r\n",
    b"HTTP/1.1 302 F\r\nLocation: \xff\xfe\r\n",
    b"HTTP/1.1 307 F\r\nLocation: javascript:x\r\n",
    b"HTTP/1.1 503 S\r\nRetry-After: 99999999999999999999\r\n",
    b"HTTP/1.1 429 S\r\nRetry-After: Wed, 99 Foo 2099 99:99:99 GMT\r\n",
    b"HTTP/1.1 429 S\r\nratelimit: r=0;t=9999999999999999\r\nratelimit-policy: q=1;w=9999999999\r\n",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nratelimit: r=0;t=\xb2\r\n",
]
_FIELDS = [
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Content-Encoding: br\r\n",
    b"Content-Type: \xff\r\n",
    b"X: " + b"y" * 200_000 + b"\r\n",
    b"bad header\r\n",
]
_BODIES = [
    *(b"", b"{}", b"[]", b"null", b"NaN", b"1e999", b"9" * 6000, b'"\\ud800"', b"[[" * 5000),
    b"ffffffffffffffff\r\nx",
    b"zz\r\n",
    b'{"inferenceProviderMapping": 5}',
    b'{"inferenceProviderMapping": {"fal-ai": 7}}',
    b'{"inferenceProviderMapping": [1, {"provider": "fal-ai", "task": "image-to-video"}]}',
    b'{"sd_model_checkpoint": 5, "forge_x": 1}',
    b'{"images": [5]}',
    b'{"images": "abc"}',
    b'{"images": {}}',
    b'{"error": {"error": [{}]}}',
    b'{"request_id": 1, "response_url": 5}',
    b'{"status": {}}',
    b'{"estimated_time": 1e400, "error": 5}',
    b'{"img2img": [5, null, {}]}',
    b"\xef\xbb\xbf{}",
    b"\x1a\x45\xdf\xa3junk",
    b"\0\0\0\x18ftypisom" + b"\xff" * 500,
]


def mischief(chance: random.Random) -> Callable[[Exchange], None]:
    """One answer in four is not what it should be: made up, or the usual one with a byte changed."""

    def trouble(exchange: Exchange) -> None:
        if chance.random() < 0.75:
            exchange.send(exchange.usual())
            return
        exchange.handler.close_connection = True
        usual = exchange.usual().body
        if usual and chance.random() < 0.3:
            at = chance.randrange(len(usual))
            head, body = _OK, usual[:at] + chance.randbytes(1) + usual[at + 1 :]
        else:
            head = _OK if chance.random() < 0.6 else chance.choice(_HEADS)
            body = chance.choice(_BODIES)
        field = b"Content-Length: %d\r\n" % len(body)
        if chance.random() < 0.3:
            field = chance.choice(_FIELDS)
        exchange.write(head + field + b"\r\n" + body)

    return trouble


@pytest.fixture(autouse=True)
def _online_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.inference._providers as providers

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(providers.fal_ai, "_POLLING_INTERVAL", 0.01)
    monkeypatch.setattr(providers.wavespeed, "_POLLING_INTERVAL", 0.01)
    monkeypatch.setattr(providers.together, "_VIDEO_POLLING_INTERVAL", 0.01)
    monkeypatch.setattr(webui_work, "ANSWER_S", 0.6)


def make(tier: Tier) -> None:
    """A clip from words, to its last frame."""
    from PIL import Image

    request = ClipRequest(prompt="x", size=(128, 72), duration=1.0)
    plan = tier.plan(request).seeded(1)
    keyframe = Keyframe(Image.new("RGB", plan.size), "ab" * 32, "illustration")
    for _ in tier.generate(Job(request, plan, (keyframe,), Monitor())).chunks:
        pass


@pytest.mark.parametrize("service", ["hub", "webui"])
def test_only_our_errors_come_of_it(service: str, service_video: bytes, temp_files: object) -> None:
    import huggingface_hub.inference._providers as providers

    chance = random.Random(service)
    kinds: tuple[Kind, ...] = ("automatic1111", "forge", "sdnext")
    served, said = 0, list[str]()
    for _ in range(ROUNDS):
        providers._common._fetch_inference_provider_mapping.cache_clear()
        provider = chance.choice(["fal-ai", "together", "wavespeed"])
        dialect: Dialect = WebUI(chance.choice(kinds))
        if service == "hub":
            dialect = Hub(service_video, provider, painter=provider)
        with serving(dialect) as server:
            server.meet("*", mischief(chance), always=True)
            route = dict.fromkeys((ROUTER, HUB, FILES), server.url)
            tier: Tier = WebUITier(server.url, "user:secret", policy=POLICY)
            if service == "hub":
                tier = HuggingFaceTier(
                    "hf_x", True, MODEL, text2image=PAINTER, policy=POLICY, route=route
                )
            begun = time.monotonic()
            try:
                make(tier)
                served += 1
            except SvdLocalError as error:
                said.append(error.message)
            assert time.monotonic() - begun < 6
    assert 0 < served < ROUNDS
    assert all(message.isprintable() and len(message) < 600 for message in said)
    until = time.monotonic() + 3
    while [t for t in threading.enumerate() if t.name.startswith("svd-local")]:
        assert time.monotonic() < until
        time.sleep(0.01)
