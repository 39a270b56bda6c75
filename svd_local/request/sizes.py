"""Amounts of memory in words: ``4GiB``, ``500 MB``, ``1.5g``."""

from __future__ import annotations

import re

from svd_local.errors import InvalidRequest

_PATTERN = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-zA-Z]*)\s*")
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
    "t": 2**40,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
LEAST_BUDGET = 1536 * 2**20
"""About the least that a full-size clip is made in on a GPU, for hints where the clip is not known yet."""
_LEAST = (
    f"A full-size clip, 25 frames at 1024x576, takes about {LEAST_BUDGET / 2**30:g}GiB at least; "
    "a smaller one takes less."
)
_MOST = 2**63


def parse_bytes(text: str | int, *, field: str) -> int:
    """The bytes that ``text`` names: a whole number, or a number with KiB, MB, GiB, G, ...

    A bare letter is binary, as GPU memory is counted: ``4G`` is 4 GiB. ``4GB`` is four billion bytes.

    Raises:
        InvalidRequest: it is no amount, not above zero, or more than a number of 64 bits holds; ``field`` says whose it was.
    """
    match = _PATTERN.fullmatch(str(text))
    unit = None if match is None else _UNITS.get(match["unit"].lower())
    if match is None or unit is None:
        raise InvalidRequest(
            f"{field}: {str(text)[:60]!r} is no amount of memory",
            hint=f"Write a number and a unit, for example 4GiB or 6000MiB. {_LEAST}",
            field=field,
        )
    amount = float(match["number"]) * unit  # infinite, where there are too many digits
    if amount < 1:
        raise InvalidRequest(
            f"{field}: {text!r} is not above zero",
            hint=f"Write how much GPU memory may be used, for example 4GiB. {_LEAST}",
            field=field,
        )
    if amount > _MOST:
        raise InvalidRequest(
            f"{field}: {str(text)[:60]!r} is more than any machine has",
            hint=f"Write a number and a unit, for example 4GiB or 6000MiB. {_LEAST}",
            field=field,
        )
    return int(amount)


def format_bytes(amount: int) -> str:
    """``amount`` for people, in binary units: ``3.2 GiB``."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
