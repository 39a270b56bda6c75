"""What a running batch shows on a terminal, as it is really drawn."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from svd_local.batch import events
from svd_local.catalog.jobs import Batch, Enrolment, Job, Reason
from svd_local.cli.batch_bars import ROOM, BatchBars
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


def begun(total: int, **values: Any) -> events.Begun:
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


class Screen:
    """A display, and what it shows."""

    def __init__(self, width: int = 100) -> None:
        self.console = Console(file=io.StringIO(), force_terminal=True, width=width)
        self.bars = BatchBars(self.console, auto_refresh=False)
        self.told: list[str] = []
        self.display = _Drawn(self.bars, self.told.append)

    def hear(self, *heard: events.Event) -> None:
        for event in heard:
            self.display.hear(event)

    def lines(self) -> list[str]:
        with self.console.capture() as screen:
            self.console.print(self.bars.get_renderable())
        return Text.from_ansi(screen.get()).plain.splitlines()


def test_the_screen_has_a_bar_for_each_lane_and_no_more() -> None:
    drawn = Screen()
    shown = drawn.lines
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


def test_a_clip_that_waits_for_its_turn_is_shown_so() -> None:
    screen = Screen()
    screen.hear(begun(1), events.JobBegun(job(0), 0))
    screen.hear(events.JobProgress(job(0), 0, Sign("keyframe", tier="fake")))
    assert "fake making the keyframe" in screen.lines()[1]
    screen.hear(events.JobProgress(job(0), 0, Sign("wait", tier="fake")))
    assert "fake waiting for its turn" in screen.lines()[1]


def test_a_stage_of_unknown_length_has_not_the_total_of_the_one_before() -> None:
    screen = Screen()
    screen.hear(begun(2), events.JobBegun(job(0), 0))
    screen.hear(events.JobProgress(job(0), 0, Sign("encode-video", 3, 14)))
    assert "3/14" in screen.lines()[1]
    screen.hear(events.JobProgress(job(0), 0, Sign("publish")))
    assert "0/?" in screen.lines()[1]
    screen.hear(events.JobProgress(job(0), 0, Sign("encode-video", 14, 14)))
    screen.hear(done(0), events.JobBegun(job(1), 0))
    assert "0/?" in screen.lines()[1]
    screen.hear(events.JobProgress(job(1), 0, Sign("keyframe")))
    assert "0/?" in screen.lines()[1]


def test_clips_of_one_row_are_told_apart_by_their_seeds() -> None:
    def of(number: int, row: int) -> Job:
        known = job(number)
        return replace(known, row=row, fields={**known.fields, "seed": 40 + number})

    screen = Screen()
    screen.hear(begun(3, several=frozenset({5})))
    screen.hear(events.JobBegun(of(1, 5), 0), events.JobBegun(of(2, 5), 1))
    screen.hear(events.JobBegun(of(3, 6), 2))
    rows = [line.split("  ")[0].rstrip(" ━╸╺") for line in screen.lines()[1:]]
    assert [row.split(" ", 2)[:2] for row in rows] == [["row", "5"], ["row", "5"], ["row", "6"]]
    assert ["seed 41" in rows[0], "seed 42" in rows[1], "seed" in rows[2]] == [True, True, False]
    screen.hear(events.JobProgress(of(1, 5), 0, Sign("denoise", 1, 2)))
    assert "seed 41: " in screen.lines()[1]
    screen.hear(events.JobReleased(of(1, 5)))
    assert screen.told[-1].startswith("row 5 clip 1, seed 41: stopped")


def test_a_batch_that_stops_does_not_promise_the_rest() -> None:
    screen = Screen()
    screen.hear(begun(9), done(0))
    assert " left" in screen.lines()[0]
    screen.hear(events.Stopping(False))
    assert " left" not in screen.lines()[0]
    assert "s each, stopping" in screen.lines()[0]
    screen.hear(done(1))
    assert "stopping" in screen.lines()[0]


def test_a_pause_that_ends_with_the_batch_is_no_going_on() -> None:
    told: list[str] = []
    display = _Told(told.append)
    display.hear(events.Paused("it is full", "Free some."))
    display.hear(events.Resumed())
    assert told[-1] == "going on"
    display.hear(events.Paused("it is full", "Free some."))
    display.hear(events.Stopping(False))
    display.hear(events.Resumed())
    assert told[-1].startswith("finishing")


def test_the_only_clip_is_none_of_several() -> None:
    told: list[str] = []
    for total, counts in ((1, {"done": 1}), (1, {"failed": 1}), (3, {"done": 2, "failed": 1})):
        batch = Batch("b", "night", NOW, None, "/out", counts)
        _Told(told.append).hear(events.Begun(Enrolment(batch, 0, total, 0), 0))
    assert told == [
        "batch night: 1 clip, done before",
        "batch night: 1 clip, given up before",
        "batch night: 3 clips, 2 of them done before, 1 given up before",
    ]


def test_no_line_is_so_full_that_an_echo_would_begin_another() -> None:
    screen = Screen(width=70)
    long = replace(job(0), fields={"title": "a very long lesson " * 9})
    screen.hear(begun(9), done(1), events.JobBegun(long, 0))
    screen.hear(events.JobProgress(long, 0, Sign("encode-image", note="and a note " * 9)))
    lines = screen.lines()
    assert len(lines) == 2
    assert max(map(cell_len, lines)) == 70 - ROOM


def test_a_long_title_leaves_room_for_how_far_the_clip_is() -> None:
    screen = Screen(width=80)
    long = replace(job(0), fields={"title": "a very long lesson " * 9, "seed": 2**32})
    screen.hear(begun(9, several=frozenset({2})), done(1), events.JobBegun(long, 0))
    screen.hear(events.JobProgress(long, 0, Sign("denoise", 3, 25, tier="local")))
    line = screen.lines()[1]
    assert line.startswith("row 2 a very …, seed 4294967296: ")
    assert "local denoising, step" in line
    assert " 3/25" in line


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
