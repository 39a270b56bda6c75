"""From what a server answers to our errors: statuses, asked-for waits, and its own words made safe."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from svd_local.errors import RemoteFailed, SvdLocalError, TierBusy, TierUnavailable

_SHOWN = 240
_READ = 65536
"""Most of a text that is looked at."""
_MASK = "***"
_LONGEST = 7 * 86400.0
_RATE = re.compile(r"r\s*=\s*(\d+)\s*;\s*t\s*=\s*(\d+)")
_QUOTA = re.compile(r"q\s*=\s*(\d+).*?w\s*=\s*(\d+)")
_USER = re.compile(r"//[^\s/@]*@")
_QUERY = re.compile(r"(\w://[^\s?\"'<>]*)\?[^\s\"'<>]*")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_UNUSABLE = frozenset({401, 402, 403, 404, 405, 407, 410, 451})
"""The service cannot be used as it is set up: key, credit, licence, address, model."""
_BUSY = frozenset({408, 425, 429, 502, 503, 504, 520, 521, 522, 523, 524})

_ADVICE = {
    400: "Change the parameters the message names.",
    401: "Check the token or the user name and password.",
    402: "Add credit to the account, or use another tier.",
    403: "Give the token the permission, or accept the model's licence on its page.",
    404: "Check the address and the model's name.",
    405: "Check the address.",
    407: "Give the proxy's user name and password in its address.",
    410: "The service has withdrawn it: choose another model.",
    413: "Use a smaller picture.",
    422: "Change the parameters the message names.",
    429: "Wait, or send less at a time.",
    451: "It may not be served where you are: choose another model, provider or tier.",
    500: "The server's own log says more.",
    503: "The server is loading or busy: try again later.",
}


def refusal(
    who: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    advice: Mapping[int, str],
    secrets: tuple[str, ...],
) -> SvdLocalError:
    """The error for an answer that is none of 2xx.

    Args:
        who: names the server in the message.
        advice: the tier's own hints by status, before the general ones.
        secrets: what must not be repeated, even where the server does.
    """
    said = server_words(body, secrets)
    message = f"{who} answered {status}" + (f": {said}" if said else "")
    hint = advice.get(status) or _ADVICE.get(status, "Try again later, or use another tier.")
    if status in _UNUSABLE:
        return TierUnavailable(message, hint=hint)
    if status in _BUSY:
        # To ask for no wait at all is to name none: "try again in 0 s" helps nobody whose tries are used up.
        return TierBusy(message, hint=hint, retry_after_s=asked_wait(headers, body) or None)
    return RemoteFailed(message, hint=hint)


def asked_wait(headers: Mapping[str, str], body: bytes = b"") -> float | None:
    """Seconds the server asks to be left alone: ``Retry-After`` as seconds or as a date, a used-up
    ``ratelimit``, or the ``estimated_time`` of a loading model; None where it asks nothing.
    """
    for found in (_retry_after(headers), _rate_limit(headers), loading_time(body)):
        if found is not None:
            return found
    return None


def loading_time(body: bytes) -> float | None:
    """``estimated_time`` of a model being loaded, in seconds."""
    document = _document(body)
    value = document.get("estimated_time") if isinstance(document, dict) else None
    return _seconds(value) if isinstance(value, (int, float)) else None


def allowed_interval(headers: Mapping[str, str]) -> float | None:
    """Seconds between two requests by ``ratelimit-policy: "fixed window";"api";q=500;w=300``."""
    match = _QUOTA.search(headers.get("ratelimit-policy", ""))
    return int(match[2]) / int(match[1]) if match and int(match[1]) > 0 else None


def left_interval(headers: Mapping[str, str]) -> float | None:
    """Seconds between two requests by what is left of a window: ``ratelimit: "api";r=20;t=55``."""
    match = _RATE.search(headers.get("ratelimit", ""))
    return int(match[2]) / int(match[1]) if match and int(match[1]) > 0 else None


def server_words(body: bytes, secrets: tuple[str, ...] = ()) -> str:
    """What the server says went wrong, as one short harmless line; empty where it says nothing."""
    document = _document(body)
    if document is not None:
        return clean(_said(document), secrets)
    text = body[:_READ].decode("utf-8", errors="replace")
    if text.lstrip()[:1] == "<":
        title = _TITLE.search(text)
        return clean(f"a web page, {title[1]!r}" if title else "a web page", secrets)
    return clean(text, secrets)


def what_came(body: bytes, secrets: tuple[str, ...] = ()) -> str:
    """What ``body`` is, that was to be a document, in words: of a page or of text, how it begins."""
    if body[:_READ].lstrip()[:1] == b"<":
        return server_words(body, secrets)
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return f"{len(body)} bytes that are no JSON"
    return "a document of another kind"


def clean(text: str, secrets: tuple[str, ...] = ()) -> str:
    """``text`` on one line, short, without control characters and without the secrets: those given, and
    what may be one in an address, its query or its user name and password.
    """
    whole, text = len(text) <= _READ, text[:_READ]
    for secret in secrets:
        text = text.replace(secret, _MASK)
    if not whole:  # the cut may have gone through a secret
        text = text[: -max(map(len, secrets), default=0) or None]
    text = _QUERY.sub(rf"\1?{_MASK}", _USER.sub(rf"//{_MASK}@", text))
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def said_in(document: Mapping[str, Any], secrets: tuple[str, ...] = ()) -> str:
    """The sentences an error document has, safe to repeat; empty where it has none."""
    return clean(_said(document), secrets)


def _said(document: Any) -> str:
    """The sentences in an error document. The services name them differently and nest them."""
    if isinstance(document, dict):
        named = (document.get(key) for key in ("error", "detail", "errors", "message", "msg"))
        return ": ".join(dict.fromkeys(filter(None, map(_said, filter(None, named)))))
    if isinstance(document, list):
        return "; ".join(filter(None, map(_said, document[:3])))
    return str(document)


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return _seconds(float(value))
    except ValueError:
        pass
    try:
        return _seconds(parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _rate_limit(headers: Mapping[str, str]) -> float | None:
    """The reset of a ``ratelimit: "api";r=0;t=55`` with nothing remaining."""
    match = _RATE.search(headers.get("ratelimit", ""))
    return _seconds(float(match[2])) if match and int(match[1]) == 0 else None


def _seconds(value: float) -> float | None:
    return None if math.isnan(value) else min(max(float(value), 0.0), _LONGEST)
