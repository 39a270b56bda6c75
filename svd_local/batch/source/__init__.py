"""What a manifest is read from: each source answers one row after the other, with true row numbers."""

from __future__ import annotations

from svd_local.batch.source.base import RawRow, Source
from svd_local.batch.source.choose import open_source

__all__ = ["RawRow", "Source", "open_source"]
