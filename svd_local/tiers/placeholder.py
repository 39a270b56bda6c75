"""The placeholder: what is left on disk when no tier could make a video. It is never one itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from svd_local.request import ClipRequest
from svd_local.result import Attempt

ID = "placeholder"
_SUPPLY = "<the picture, saved as a file>"


def placeholder_document(
    request: ClipRequest, attempts: Sequence[Attempt], made_at: datetime
) -> dict[str, Any]:
    """The JSON document of a placeholder: what was wanted, why there is none, when to try again.

    Args:
        request: what was wanted; pictures given as bytes are told by their digest.
        attempts: every tier that was asked, in order; none where only a placeholder was asked for.
        made_at: the moment from which the attempts' ``retry_after_s`` count; with a time zone.

    Returns:
        JSON-able values. Times are UTC, ISO 8601. ``retry.at`` is the earliest time a tier named
        for itself, null where none did; ``retry.command`` is the command line that tries again.

    Raises:
        ValueError: ``made_at`` has no time zone.
    """
    if made_at.tzinfo is None:
        raise ValueError("made_at needs a time zone")
    return {
        "kind": "placeholder",
        "format": "svd_local placeholder 1",
        "made_at": _utc(made_at),
        "note": "No video was made. This file says what was wanted, why there is none, and when "
        "to try again.",
        "request": request.describe(),
        "attempts": [
            {**attempt.to_json(), "retry_at": _retry_at(attempt, made_at)} for attempt in attempts
        ],
        "retry": _retry(request, attempts, made_at),
    }


def _retry(request: ClipRequest, attempts: Sequence[Attempt], made_at: datetime) -> dict[str, Any]:
    waits = [(a.retry_after_s, a.tier) for a in attempts if a.retry_after_s is not None]
    after_s, tier = min(waits, default=(None, None))
    return {
        "after_s": after_s,
        "at": None if after_s is None else _utc(made_at + timedelta(seconds=after_s)),
        "tier": tier,
        "what_helps": _what_helps(request, attempts),
        "command": _command(request),
    }


def _what_helps(request: ClipRequest, attempts: Sequence[Attempt]) -> list[str]:
    """What would make the same request succeed, most promising first."""
    help_: list[str] = []
    for attempt in sorted(attempts, key=lambda a: a.outcome != "busy"):
        if attempt.outcome == "busy":
            when = (
                "later"
                if attempt.retry_after_s is None
                else f"in {attempt.retry_after_s:.0f} s or later"
            )
            help_.append(f"Try {attempt.tier} again {when}: the cause passes by itself.")
        elif attempt.outcome == "unavailable":
            help_.append(f"Make {attempt.tier} available: {attempt.reason}")
        elif attempt.outcome == "failed":
            help_.append(f"Remove what made {attempt.tier} fail: {attempt.reason}")
    if request.tier == ID:
        help_.append("Ask for another tier: this one makes no video.")
    if request.tier not in ("auto", "image-sequence"):
        help_.append("Ask for --tier image-sequence, which animates the picture on any machine.")
    return help_


def _command(request: ClipRequest) -> str:
    """The command line that asks for the same again; ``auto`` in place of the placeholder itself."""
    words = ["svd-local", "generate"]
    for name in type(request).model_fields:
        value = getattr(request, name)
        if value == type(request).model_fields[name].default or (name, value) == ("tier", ID):
            continue
        for item in value if name == "images" else (value,):
            words += _option("image" if name == "images" else name, item)
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is True:
        return [flag]
    if isinstance(value, bytes):
        return [flag, _SUPPLY]
    if isinstance(value, Path):
        return [flag, str(value.absolute())]
    if isinstance(value, tuple):
        return [flag, (":" if name == "guidance" else "x").join(map(str, value))]
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


def _retry_at(attempt: Attempt, made_at: datetime) -> str | None:
    if attempt.retry_after_s is None:
        return None
    return _utc(made_at + timedelta(seconds=attempt.retry_after_s))


def _utc(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
