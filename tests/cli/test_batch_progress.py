"""What a running batch shows on a terminal, as it is really drawn."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from svd_local.batch import events
from svd_local.catalog.jobs import Batch, Enrolment, Job, Reason
from svd_local.cli.batch_progress import _Drawn, _Told
from svd_local.result import Clip, Files, Timings
from svd_local.result import Progress as Sign

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def job(number: int) -> Job:
    fields = {"title": f"clip {number}"}
    return Job(
        *(number, "b", str(number), number + 2, number, fields, None, None, 0, "running", 1, NOW),
        *("w", NOW, None, None, None, False, None),
    )


def begun(total: int, **values: int) -> events.Begun:
    counts = {"added": total, "known": 0, "cancelled": 0, **values}
    return events.Begun(
        Enrolment(Batch("b", "night", NOW, None, "/out", {"queued": total}), **counts), 0
    )


def done(number: int, elapsed_s: float = 8.0, waited_s: float = 0.0) -> events.JobDone:
    video = Path(f"{number}.mp4")
    timings = Timings(waited_s=waited_s)
    return events.JobDone(
        job(number),
        Clip(
            "generated", video, "local", (), {}, Files(video), elapsed_s=elapsed_s, timings=timings
        ),
    )


def test_the_screen_has_a_bar_for_each_lane_and_no_more() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    bars = Progress(*columns, console=console, auto_refresh=False)
    drawn = _Drawn(bars, lambda line: None)

    def shown() -> list[str]:
        with console.capture() as screen:
            console.print(bars.get_renderable())
        return screen.get().splitlines()

    drawn.hear(begun(24))
    for number in range(24):
        drawn.hear(events.JobBegun(job(number), number % 2))
        drawn.hear(events.JobProgress(job(number), number % 2, Sign("denoise", 1, 2)))
        if number:
            drawn.hear(done(number - 1))
        assert len(shown()) <= 3
    assert [line for line in shown() if not line.strip()] == []
    assert sum("clip 23" in line for line in shown()) == 1
    assert not any("clip 22" in line for line in shown())  # its lane has nothing to do
    drawn.hear(events.JobPostponed(job(23), Reason("x", "y")))
    assert len(shown()) == 1


def test_a_clips_line_tells_its_own_seconds() -> None:
    told: list[str] = []
    display = _Told(told.append)
    display.hear(begun(2))
    display.hear(done(0, elapsed_s=18.0, waited_s=8.0))
    assert told[-1] == "[1/2] row 2 clip 0: 0.mp4 (10.0 s)"


def test_rows_that_the_manifest_lost_are_told() -> None:
    told: list[str] = []
    display = _Told(told.append)
    for values in ({}, {"known": 3, "added": 0}):
        display.hear(begun(4, **values))
        assert "changed" not in told[-1]
    display.hear(begun(4, known=2, added=0, cancelled=2))
    assert told[-1].endswith("have changed: 2 that waited are cancelled")
    display.hear(begun(4, known=2, added=1, leaving=1))
    assert told[-1].endswith("changed: 1 in the making elsewhere will not be begun again, 1 is new")
