from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import batches
from servers.databases import database_of

from svd_local.batch import pauses
from svd_local.batch.events import Begun, Event, Paused, Resumed
from svd_local.batch.ground import enrol
from svd_local.batch.pauses import noted_pauses
from svd_local.catalog import Catalog
from svd_local.catalog.jobs import Batch, Enrolment

FULL = Paused("/out has 1 GiB free, and 2 GiB are kept", "Free some space.")


@pytest.fixture
def catalog(tmp_path: Path, server: str) -> Iterator[Catalog]:
    with Catalog(database_of(tmp_path), tmp_path / "media") as catalog:
        yield catalog


@pytest.fixture
def begun(catalog: Catalog, tmp_path: Path) -> Enrolment:
    return enrol(catalog, [batches.spec(0)], batches.options(tmp_path))


def until(catalog: Catalog, is_so: Callable[[Batch], bool]) -> Batch:
    give_up = time.monotonic() + 20
    while not is_so(batch := catalog.jobs.batch("night")):
        assert time.monotonic() < give_up, batch
        time.sleep(0.01)
    return batch


def test_a_pause_is_seen_from_elsewhere_as_long_as_it_lasts(
    catalog: Catalog, begun: Enrolment, tmp_path: Path
) -> None:
    told: list[Event] = []
    with noted_pauses(batches.settings(tmp_path, database_of(tmp_path)), told.append) as hear:
        hear(FULL)  # before there is a batch to note it with
        hear(Begun(begun, 0))
        hear(FULL)
        pause = until(catalog, lambda batch: batch.pause is not None).pause
        assert pause is not None
        assert (pause.why, pause.hint) == (FULL.why, FULL.hint)
        hear(Resumed())
        until(catalog, lambda batch: batch.pause is None)
        hear(FULL)
        until(catalog, lambda batch: batch.pause is not None)
    assert catalog.jobs.batch("night").pause is None, "the command is over"
    assert told == [FULL, Begun(begun, 0), FULL, Resumed(), FULL]


def test_a_note_is_written_again_before_it_lapses(
    catalog: Catalog, begun: Enrolment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "HOLDS_S", 0.5)
    monkeypatch.setattr(pauses, "_AGAIN_S", 0.02)
    with noted_pauses(
        batches.settings(tmp_path, database_of(tmp_path)), lambda event: None
    ) as hear:
        hear(Begun(begun, 0))
        hear(FULL)
        pause = until(catalog, lambda batch: batch.pause is not None).pause
        time.sleep(0.7)
        assert catalog.jobs.batch("night").pause == pause


def test_what_the_caller_raises_ends_it(begun: Enrolment, tmp_path: Path) -> None:
    def refuse(event: Event) -> None:
        raise OSError("enough")

    settings = batches.settings(tmp_path, database_of(tmp_path))
    with pytest.raises(OSError, match="enough"), noted_pauses(settings, refuse) as hear:
        hear(Begun(begun, 0))
