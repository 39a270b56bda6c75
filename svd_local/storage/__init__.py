"""Where files come from and where they go: names, staging, atomic publishing, sweeping.

A clip's files are written into a hidden staging folder beside their target and moved out complete,
the MP4 last: an MP4 that can be seen is whole, and its poster and manifest are there.
"""

from __future__ import annotations

from svd_local.storage.checks import check_writable
from svd_local.storage.faults import storing
from svd_local.storage.linking import link_or_copy
from svd_local.storage.lock import Lock, held, locked_folder
from svd_local.storage.names import check_stem, file_prefix
from svd_local.storage.replacing import replace_files
from svd_local.storage.staging import Staging
from svd_local.storage.sweeping import Orphan, leftovers, orphans, sweep

__all__ = [
    "Lock",
    "Orphan",
    "Staging",
    "check_stem",
    "check_writable",
    "file_prefix",
    "held",
    "leftovers",
    "link_or_copy",
    "locked_folder",
    "orphans",
    "replace_files",
    "storing",
    "sweep",
]
