"""Reading what servers say: how long to wait, what went wrong, whose secret it is."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_local.errors import RemoteFailed, TierBusy, TierUnavailable
from svd_local.tiers.remote.refusals import (
    allowed_interval,
    asked_wait,
    clean,
    loading_time,
    refusal,
    server_words,
)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "1e99"}, 7 * 86400),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 55),
        ({"ratelimit": '"api";r=12;t=55'}, None),
        ({"ratelimit": "nonsense"}, None),
        ({"retry-after": "7", "ratelimit": '"api";r=0;t=55'}, 7),
    ],
)
def test_a_wait_is_read_from_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers) == seconds


@pytest.mark.parametrize("ahead", [90, -90])
def test_a_wait_is_read_from_a_date(ahead: int) -> None:
    stamp = formatdate(time.time() + ahead, usegmt=True)
    assert asked_wait({"retry-after": stamp}) == pytest.approx(max(ahead, 0), abs=2)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (b'{"error": "loading", "estimated_time": 20.5}', 20.5),
        (b'{"estimated_time": "20"}', None),
        (b'{"estimated_time": null}', None),
        (b"[1]", None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_a_loading_models_time(body: bytes, seconds: float | None) -> None:
    assert loading_time(body) == seconds


def test_the_interval_of_a_rate_limit() -> None:
    policy = '"fixed window";"api";q=500;w=300'
    assert allowed_interval({"ratelimit-policy": policy}) == 0.6
    assert allowed_interval({"ratelimit-policy": "q=0;w=300"}) is None
    assert allowed_interval({}) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, TierUnavailable) for status in (401, 402, 403, 404, 405, 407, 410, 451)),
        *((status, TierBusy) for status in (408, 425, 429, 502, 503, 504, 522)),
        *((status, RemoteFailed) for status in (304, 400, 413, 418, 422, 500, 501)),
    ],
)
def test_every_status_has_its_error_and_its_advice(status: int, kind: type) -> None:
    error = refusal("it", status, {"retry-after": "9"}, b"", advice={}, secrets=())
    assert type(error) is kind
    assert error.message == f"it answered {status}"
    assert error.hint.endswith(".")
    assert error.falls_through
    assert error.retry_after_s == (9 if kind is TierBusy else None)


@given(st.binary(max_size=300))
def test_any_body_gives_one_harmless_line(body: bytes) -> None:
    words = server_words(body)
    assert words == "" or words.isprintable()
    assert len(words) <= 240


@given(st.recursive(st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_a_secret_is_never_repeated(document: object) -> None:
    secret = "s3cr3t-token"
    body = json.dumps({"error": [document, f"bad token {secret}", {"msg": secret}]}).encode()
    assert secret not in server_words(body, (secret,))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("expired: https://a.example/b?sig=1&x=2 sorry", "expired: https://a.example/b?*** sorry"),
        ("<a href='https://a.example/b?sig=1'>", "<a href='https://a.example/b?***'>"),
        ("http://user:word@a.example/", "http://***@a.example/"),
        ("why? 1//2 and a/b@c?", "why? 1//2 and a/b@c?"),
    ],
)
def test_what_may_be_a_key_in_an_address_is_not_repeated(said: str, told: str) -> None:
    assert clean(said) == told


def test_deep_nesting_is_no_way_to_crash() -> None:
    assert server_words(b'{"error":' * 100_000).startswith('{"error"')


def test_a_cut_leaves_no_half_of_a_secret() -> None:
    secret = "s3cr3t-token"
    for ahead in range(65520, 65540):
        told = clean(" " * ahead + secret, (secret,))
        assert told in ("", "***")


def test_a_long_text_is_cut_at_once() -> None:
    begun = time.process_time()
    clean("word " * 10**7, ("x" * 40,))
    assert time.process_time() - begun < 0.5


def test_a_long_text_is_cut() -> None:
    assert clean("word " * 200).endswith("…")
    assert len(clean("x" * 900)) == 240
