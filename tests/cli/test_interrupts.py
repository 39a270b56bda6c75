"""Signals that tell a program to end: none is lost, and one that is to be ignored is."""

from __future__ import annotations

import json
import os
import signal
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from svd_local.batch.events import Stopping
from svd_local.cli import interrupts, run
from svd_local.cli.batch_progress import _Told
from svd_local.cli.interrupts import hear_all, remembered
from svd_local.cli.unread import let_go_unread
from svd_local.tiers import fake

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Thing:
    pass


def lost(which: signal.Signals) -> None:
    """The signal comes while the interpreter calls back, which has nobody to raise its exception to."""
    thing = Thing()
    kept = weakref.ref(thing, lambda _: signal.raise_signal(which))
    del thing
    assert kept() is None


@pytest.fixture(autouse=True)
def _usual_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {which: signal.getsignal(which) for which in SIGNALS}
    # pytest watches for such exceptions as well.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    yield
    interrupts._heard.clear()
    for which, handler in before.items():
        signal.signal(which, handler)


@pytest.mark.parametrize("which", SIGNALS)
def test_a_clip_is_cancelled_though_the_exception_is_lost(
    which: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
    monkeypatch.setenv("SVD_LOCAL_ENABLE_FAKE_TIER", "1")
    steps: list[Any] = []

    def wait(_seconds: float, monitor: Any) -> None:
        steps.append(monitor)
        if len(steps) == 3:
            lost(which)
        monitor.check()

    monkeypatch.setattr(fake, "_wait", wait)
    hear_all()
    status = run(["generate", "--prompt", "a", "--tier", "fake", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (status, document["error"]["code"]) == (130, "cancelled")
    assert [attempt["code"] for attempt in document["attempts"]] == ["cancelled"]
    assert len(steps) == 3


@pytest.mark.parametrize("which", SIGNALS)
def test_it_is_raised_as_ever_and_the_handlers_are_put_back(which: signal.Signals) -> None:
    hear_all()
    before = signal.getsignal(which)
    with remembered() as told:
        assert not told()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(which)
        assert told()
    assert signal.getsignal(which) == before


@pytest.mark.parametrize("which", SIGNALS)
def test_a_batch_says_what_fits_the_signal(which: signal.Signals) -> None:
    told: list[str] = []
    hear_all()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(which)
    display = _Told(told.append)
    display.hear(Stopping(cancelling=False))
    display.hear(Stopping(cancelling=True))
    if which == signal.SIGINT:
        assert told == [
            "finishing the clips at hand; Ctrl-C again cancels them",
            "cancelling the clips at hand",
        ]
        return
    assert told[0].startswith(f"told to end ({which.name}): finishing the clips at hand; ")
    assert told[0].endswith(f"kill {os.getpid()}, cancels them")
    assert told[1] == f"told to end ({which.name}): cancelling the clips at hand"
    assert "Ctrl-C" not in "".join(told)


def test_what_was_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    hear_all()
    with remembered() as told:
        signal.raise_signal(signal.SIGHUP)
    assert not told()


def test_a_handler_of_somebody_else_is_left_alone() -> None:
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    with remembered() as told:
        signal.raise_signal(signal.SIGTERM)
    assert heard == [True]
    assert not told()


def test_standard_error_that_cannot_be_written_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError), open(writing, "w", closefd=False) as nobody:
        nobody.write("a")
    broken = open(writing, "w", buffering=1, closefd=False)  # noqa: SIM115 - its end fails as well
    monkeypatch.setattr(sys, "stderr", broken)
    let_go_unread()
    let_go_unread()
    print("b", file=sys.stderr, flush=True)
    assert not sys.stderr.isatty()
    monkeypatch.setattr(sys, "stderr", None)
    let_go_unread()
    print("c", file=sys.stderr)
    os.close(writing)
