"""Clips that hang: how long one may show no sign of life, and what is said of one that shows none.

A clip's thread is heard each time it reports progress or asks whether it is still wanted, which all
stages do between their steps, and while they wait for a service, for ffmpeg or for their turn; what they
wait for has deadlines of its own. Only a call that does not come back is silent: a GPU, a driver or a
disk that hangs, or work that is one long step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from svd_local.batch.events import JobStalled
from svd_local.batch.options import BatchOptions
from svd_local.catalog.jobs import Job
from svd_local.result import Progress

SILENCE_S = 1800.0
"""Twice the longest deadline of any tier, the Hugging Face one's quarter of an hour. The longest step
that asks nobody is reading a checkpoint from a slow disk: 10 GB at 10 MB a second take 17 minutes."""
CPU_SILENCE_S = 6 * 3600.0
"""On the CPU one denoising step of 25 frames at full size, 160 TFLOP, may well take an hour."""


def patience_s(job: Job, options: BatchOptions) -> float:
    """How long ``job`` may be silent before it is taken to hang."""
    if options.silence_s is not None:
        return options.silence_s
    return CPU_SILENCE_S if job.fields.get("device") == "cpu" else SILENCE_S


class Signs:
    """What was last heard of one clip in the making. Thread-safe."""

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience_s = patience_s
        self._clock = clock
        self._lock = threading.Lock()
        self._last = clock()
        self._doing = ""

    def alive(self, progress: Progress | None = None) -> None:
        """It was heard of, perhaps with what it is doing."""
        with self._lock:
            self._last = self._clock()
            if progress is not None:
                steps = f", {progress.done} of {progress.total}" if progress.total else ""
                self._doing = f"{progress.stage}{steps}"

    def silent(self) -> tuple[float, str] | None:
        """For how many seconds, and what it was last heard to do, where that is too long; else None."""
        with self._lock:
            silent_s = self._clock() - self._last
            return (silent_s, self._doing) if silent_s > self.patience_s else None


def told_of(event: JobStalled) -> str:
    """Which clip hangs, in words that go on ``because``."""
    doing = f" ({event.doing})" if event.doing else ""
    return f"row {event.job.row} showed no sign of life for {lasted(event.silent_s)}{doing}"


def lasted(seconds: float) -> str:
    """``50 s``, ``31 min``, ``6.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
