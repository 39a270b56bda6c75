"""The catalog: one row per published clip, written last. Without the row a clip is only a file.

Importing this package loads no database library; touching ``Catalog`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svd_local.catalog.stored import StoredClip, restored

if TYPE_CHECKING:
    from svd_local.catalog.store import Catalog

__all__ = ["Catalog", "StoredClip", "restored"]


def __getattr__(name: str) -> Any:
    if name == "Catalog":
        from svd_local.catalog.store import Catalog

        return Catalog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
