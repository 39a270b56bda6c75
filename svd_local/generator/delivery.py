"""Delivery: how a finished clip is handed over, where that is more than files and a row."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svd_local.result import Clip, Correction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from svd_local.catalog.store import Joined


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the caller of ``VideoGenerator.generate`` decides about publishing."""

    stem: str | None = None
    """Name of the files, a number added where it is taken; None: the usual timestamped names."""
    owner: Mapping[str, Any] | None = None
    """Whose clip it is, JSON-able: kept beside the files until the row is committed, so that a clip
    whose process died in between can be adopted (``storage.orphans``, ``read_record``)."""
    commit: Callable[[Session, Clip], None] | None = None
    """Writes what must be committed with the clip's row; what it raises takes the clip back."""
    before: Callable[[str, tuple[Correction, ...]], None] | None = None
    """Called with the fingerprint, and what was corrected, of a clip that the catalog lacks, before it
    is made; what it raises ends the clip. For whoever has another catalog to ask."""
    placeholders: bool = True
    """Whether a placeholder is written where no video can be made; else the reason is raised."""

    def record(self, clip: Clip, request: Mapping[str, Any]) -> bytes | None:
        """What is kept for an adopter: all that its row needs beside the files."""
        if self.owner is None:
            return None
        document = {"owner": dict(self.owner), "clip": clip.to_json(), "request": dict(request)}
        return json.dumps(document, ensure_ascii=False).encode()

    def joined(self, clip: Clip) -> Joined | None:
        """``commit`` as the catalog calls it for the row of ``clip``."""
        commit = self.commit
        if commit is None:
            return None
        return lambda session, name: commit(session, dataclasses.replace(clip, id=name))


def read_record(record: bytes) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    """The owner, the clip's document and the request's of a record.

    Raises:
        ValueError: it is damaged.
    """
    try:
        document = json.loads(record)
        return document["owner"], document["clip"], document["request"]
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"no record of a clip: {error}") from error
