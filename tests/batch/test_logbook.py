from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import batches
from servers.databases import database_of

from svd_local.batch import logbook
from svd_local.batch.events import Event, Paused, Resumed, Waiting
from svd_local.batch.ground import enrol
from svd_local.batch.logbook import Logbook
from svd_local.batch.summary import BatchSummary, Tally
from svd_local.catalog import Catalog
from svd_local.catalog.jobs import Batch, Run
from svd_local.errors import DeviceLost, StorageFailed

FULL = Paused("/out has 1 GiB free, and 2 GiB are kept", "Free some space.")


@pytest.fixture
def catalog(tmp_path: Path, server: str) -> Iterator[Catalog]:
    with Catalog(database_of(tmp_path), tmp_path / "media") as catalog:
        yield catalog


@pytest.fixture
def batch(catalog: Catalog, tmp_path: Path) -> Batch:
    return enrol(catalog, [batches.spec(0)], batches.options(tmp_path)).batch


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> Tally:
    monkeypatch.setattr(logbook, "_LEAST_S", 0.01)
    return Tally()


@pytest.fixture
def book(catalog: Catalog, batch: Batch, tally: Tally) -> Logbook:
    def so_far() -> BatchSummary:
        return tally.summary(batch, (), stopped=False)

    return Logbook(catalog.jobs, batch.id, "host-1", so_far)


def until(catalog: Catalog, batch: Batch, is_so: Callable[[Run], bool]) -> Run:
    give_up = time.monotonic() + 20
    while not (runs := catalog.jobs.runs(batch.id)) or not is_so(runs[0]):
        assert time.monotonic() < give_up, runs
        time.sleep(0.01)
    assert len(runs) == 1
    return runs[0]


def test_a_run_is_noted_from_its_beginning_to_its_end(
    catalog: Catalog, batch: Batch, tally: Tally, book: Logbook
) -> None:
    told: list[Event] = []
    hear = book.hearing(told.append)
    with book:
        begun = until(catalog, batch, lambda run: True)
        assert (begun.state, begun.who, begun.figures["made"]) == ("running", "host-1", 0)
        tally.count("made")
        hear(Waiting(None, 1, 0))
        assert until(catalog, batch, lambda run: run.figures["made"] == 1).state == "running"
        tally.count("made")
        book.ended(tally.summary(batch, (), stopped=True))
    run = until(catalog, batch, lambda run: run.state == "ended")
    assert (run.figures["made"], run.figures["stopped"]) == (2, True)
    assert run.began_at == begun.began_at < run.ended_at
    assert told == [Waiting(None, 1, 0)]


def test_a_run_that_an_error_ends_says_so(catalog: Catalog, batch: Batch, book: Logbook) -> None:
    with pytest.raises(DeviceLost), book:
        raise DeviceLost("the GPU answers no more")
    (run,) = catalog.jobs.runs(batch.id)
    assert run.state == "failed"
    assert run.figures["error"] == {"code": "device-lost", "message": "the GPU answers no more"}
    assert run.figures["made"] == 0


def test_what_the_caller_raises_ends_it(catalog: Catalog, batch: Batch, book: Logbook) -> None:
    def refuse(event: Event) -> None:
        raise OSError("of the caller's own, perhaps with a secret")

    with pytest.raises(OSError, match="own"), book:
        book.hearing(refuse)(Resumed())
    assert catalog.jobs.runs(batch.id)[0].figures["error"] == {
        "code": "unexpected",
        "message": "OSError",
    }


def test_a_pause_is_seen_from_elsewhere_as_long_as_it_lasts(
    catalog: Catalog, batch: Batch, book: Logbook
) -> None:
    hear = book.hearing(None)
    with book:
        hear(FULL)
        pause = until(catalog, batch, lambda run: run.pause is not None).pause
        assert pause is not None
        assert (pause.why, pause.hint, pause.who) == (FULL.why, FULL.hint, "host-1")
        assert catalog.jobs.batch("night").pause == pause
        hear(Resumed())
        until(catalog, batch, lambda run: run.pause is None)
        hear(FULL)
        until(catalog, batch, lambda run: run.pause is not None)
    assert catalog.jobs.batch("night").pause is None, "the command is over"


def test_a_note_is_renewed_before_it_lapses(
    catalog: Catalog, batch: Batch, book: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "_AGAIN_S", 0.03)
    with book:
        first = until(catalog, batch, lambda run: True).ended_at
        until(catalog, batch, lambda run: run.ended_at > first)


def test_a_catalog_that_cannot_be_written_holds_up_nobody(
    catalog: Catalog, batch: Batch, tally: Tally, book: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next note brings what those before it could not."""
    jobs, tries = book._jobs, []
    note_run = jobs.note_run

    def refuse_twice(*args: object, **named: object) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StorageFailed("the disk is full")
        note_run(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "note_run", refuse_twice)
    hear = book.hearing(None)
    with book:
        while len(tries) < 3:
            hear(Resumed())
        book.ended(tally.summary(batch, (), stopped=False))
    assert catalog.jobs.runs(batch.id)[0].state == "ended"
