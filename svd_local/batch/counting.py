"""Counts as people read them."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 clip``, ``2 clips``, ``1,234 clips are``: ``many`` is ``one`` with an s where not given."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
