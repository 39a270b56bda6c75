"""How a batch is run, and what it is called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svd_local.batch.skipped import Skipped
from svd_local.errors import InvalidRequest

MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How to run one batch.

    Raises:
        InvalidRequest: a value means nothing.
    """

    name: str
    """The same name goes on with the same batch."""
    folder: Path
    """Output folder; the jobs' own folders are below it."""
    manifest: Path | None = None
    asked: Mapping[str, Any] | None = None
    """What the user gave that is part of what the clips are, JSON-able; see ``batch.asked``."""
    skipped: Skipped | None = None
    """What was left out of the manifest as bad, kept with the batch; None also takes back what was."""
    lanes: int = 2
    """Clips in the making at once over the one generator: while one denoises, the next one's picture
    is prepared or the last one's file written."""
    tries: int = 3
    """How often a job is begun before it is given up."""
    lease_s: float = 60.0
    """Seconds without a sign of life after which a job is somebody else's."""
    backoff_s: float = 10.0
    """Wait before a second try where the error names none; doubled with each try, at most ten minutes."""
    silence_s: float | None = None
    """Seconds without any sign of life of a clip after which it is taken to hang; None: half an hour, six
    hours where it is made on the CPU. See ``batch.stalls``."""
    poll_s: float = 1.0
    """Longest wait before looking again for work, room on the disk, or a cancelled job."""

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > MAX_NAME or not self.name.isprintable():
            raise InvalidRequest(
                f"the batch's name {self.name[:40]!r} is empty, too long or unprintable",
                hint=f"Write at most {MAX_NAME} characters.",
                field="name",
            )
        for field, least in (("lanes", 1), ("tries", 1), ("lease_s", 1), ("backoff_s", 0)):
            if getattr(self, field) < least:
                raise InvalidRequest(
                    f"{field}: {getattr(self, field)} is less than {least}",
                    hint=f"Write {least} or more.",
                    field=field,
                )
        if self.silence_s is not None and not self.silence_s > 0:
            raise InvalidRequest(
                f"hung_after: {self.silence_s} is less than any step of a clip takes",
                hint="Write the seconds that the longest one may take.",
                field="hung_after",
            )


def batch_name(manifest: Path, folder: Path) -> str:
    """What a batch is called that was given no name: the same for the same manifest and folder."""
    places = f"{manifest.resolve()}\0{folder.resolve()}"
    return f"{manifest.stem[:100]}-{hashlib.sha256(places.encode()).hexdigest()[:8]}"
