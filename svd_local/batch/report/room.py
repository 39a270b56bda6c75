"""What a report may take of the disk: its pictures, like clips, nothing of the reserve; its pages, which are small
and needed most where the disk is what went wrong, one half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from svd_local.batch.space import free_bytes
from svd_local.errors import DiskFull
from svd_local.request import format_bytes

A_JOB = 16 << 10
"""Bytes that a job takes in table, document, page and scratch file, or less: half of it is usual."""
A_PAGE = 64 << 10
"""And a page by itself."""
_HINT = (
    "Free some space; or have it written elsewhere, svd-local batch report NAME --out DIR; or lower "
    "SVD_LOCAL_DISK_RESERVE."
)


@dataclass(frozen=True, slots=True)
class Room:
    """The device of ``folder``, of which ``reserve`` bytes are to stay free."""

    folder: Path
    reserve: int

    def shortage(self, ahead: int = 0) -> str | None:
        """Why pictures and ``ahead`` more bytes should not be written; None where there is room for them.

        Raises:
            OSError: it cannot be found out.
        """
        free = free_bytes(self.folder)
        if free - ahead >= self.reserve:
            return None
        told, kept = self._told(free), format_bytes(self.reserve)
        if free < self.reserve:
            return f"{told}, and {kept} are kept"
        return f"{told}, of which {kept} are kept, and {format_bytes(ahead)} are needed"

    def require(self, ahead: int = 0) -> None:
        """See that there is room for ``ahead`` more bytes of pages.

        Raises:
            DiskFull: there is not.
            OSError: it cannot be found out.
        """
        free = free_bytes(self.folder)
        if free - ahead >= self.reserve // 2:
            return
        needed = f", and {format_bytes(ahead)} are needed" if ahead else ""
        raise DiskFull(
            f"{self._told(free)}{needed}; of the {format_bytes(self.reserve)} that are kept a report "
            "leaves one half",
            hint=_HINT,
        )

    def _told(self, free: int) -> str:
        return f"{self.folder} has {format_bytes(free)} free"
