"""Progress people like to look at: on standard error, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from svd_local.result import Progress, ProgressCallback

_STAGES = {
    "wait": "waiting for its turn",
    "download": "downloading, MB",
    "load": "loading the model",
    "keyframe": "making the keyframe",
    "encode-image": "reading the picture",
    "denoise": "denoising, step",
    "decode": "decoding, frame",
    "render": "rendering, frame",
    "encode-video": "encoding, frame",
    "publish": "publishing",
}


def stage_text(progress: Progress) -> str:
    """The tier, its stage and the note, as a person is told of them."""
    text = f"{progress.tier or ''} {_STAGES.get(progress.stage, progress.stage)}"
    return f"{text} ({progress.note})" if progress.note else text


@contextmanager
def progress_display(label: str = "") -> Iterator[ProgressCallback | None]:
    """A progress callback that draws a line for the stage at hand; None where nobody is looking."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    bars = Bars(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    drawn: dict[str, TaskID] = {}

    def show(progress: Progress) -> None:
        text = label + stage_text(progress)
        if progress.stage not in drawn:
            for _ in range(len(drawn)):
                bars.remove_task(drawn.popitem()[1])
            drawn[progress.stage] = bars.add_task(text, total=progress.total or None)
        bars.update(
            drawn[progress.stage],
            description=text,
            completed=progress.done,
            total=progress.total or None,
        )

    with bars:
        yield show


@contextmanager
def download_display() -> Iterator[Callable[[int, int, str], None] | None]:
    """A callback for bytes that come: so many, of so many, and the file; None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bars.add_task("", total=None, start=True)

    def show(done: int, total: int, file: str) -> None:
        bars.update(task, description=file, completed=done, total=total)

    with bars:
        yield show
