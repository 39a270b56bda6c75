"""Seeds for requests that name none."""

from __future__ import annotations

import secrets


def draw_seed() -> int:
    """A fresh seed, small enough to be read out loud and typed again."""
    return secrets.randbelow(2**32)
