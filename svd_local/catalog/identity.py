"""Names for rows: sortable by time, and short enough to type the beginning of."""

from __future__ import annotations

import secrets
from datetime import datetime

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no letter that is taken for another."""


def new_id(at: datetime) -> str:
    """A ULID in lower case: ten digits of milliseconds since 1970, sixteen random ones."""
    value = (int(at.timestamp() * 1000) << 80) | secrets.randbits(80)
    return "".join(_DIGITS[(value >> shift) & 31] for shift in range(125, -1, -5))
