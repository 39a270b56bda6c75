"""Numbers, moments and paths, as people and browsers read them."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def href(path: str) -> str:
    """A relative path as a relative URL; an absolute one of another drive as a file's.

    Every byte that is not plain is percent-encoded, also the colon, so that no name is a scheme.
    """
    if Path(path).is_absolute():
        return Path(path).as_uri()
    return quote(os.fsencode(path), safe="/")


def clean(value: Any) -> Any:
    """Text without characters that HTML has no place for; whatever else as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _CONTROL.sub("\ufffd", value)
    return value


def seconds(value: float | None) -> str:
    """A clip's time: ``8.1 s``, ``2 min 05 s``."""
    if value is None:
        return "–"
    if value < 0.1:
        return f"{value:.2f} s"
    return f"{value:.1f} s" if value < 99.95 else span(value)


def span(value: float | None) -> str:
    """A batch's time: ``42 s``, ``7 min 03 s``, ``9 h 12 min``, ``3 d 04 h``."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def percent(value: float | None) -> str:
    """A share of 1: ``74 %``, and ``0.4 %`` where rounding would say none."""
    if value is None:
        return "–"
    return f"{value * 100:.1f} %" if 0 < value < 0.0995 else f"{value * 100:.0f} %"


def number(value: float | None) -> str:
    """``1,234`` or ``3.4``: a rate or a count."""
    if value is None:
        return "–"
    return f"{value:,.1f}" if value < 100 and value != int(value) else f"{value:,.0f}"


def moment(value: str | datetime | None) -> str:
    """In the time zone of the machine that writes the report: ``2026-11-24 06:12``."""
    if value is None:
        return "–"
    known = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{known.astimezone():%Y-%m-%d %H:%M}"


def zone(value: datetime) -> str:
    """The offset that ``moment`` tells times in: ``UTC+01:00``."""
    offset = f"{value.astimezone():%z}"
    return f"UTC{offset[:3]}:{offset[3:5]}"
