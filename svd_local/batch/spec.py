"""JobSpec: one clip that a manifest asks for, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One clip to make.

    ``fields`` are those of ``ClipRequest``, JSON-able as the manifest wrote them: defaults merged in,
    templates filled in, paths absolute, never ``out``.
    """

    row: int
    """Line of the manifest, the header being line 1 where there is one, or number of the picture."""
    index: int
    """Position among the manifest's jobs, from 0. Bad rows count, so that repairing one moves none."""
    key: str
    """SHA-256, in hex, of the fields, the folder, and the how-many-eth such job it is: the same job
    keeps it when the manifest is edited around it, and equal rows are jobs of their own."""
    fields: Mapping[str, Any]
    """``seed`` only where the manifest or an option gives one."""
    folder: str | None
    """Below the batch's output folder, with ``/``; None is the output folder itself."""
    name: str | None
    """Wanted stem of the file names, unlike every other job's; None takes the usual names."""
    priority: int = 0
    """Higher ones go first."""
