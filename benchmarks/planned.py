"""An engine run as a session runs it: in the fastest memory plan that fits, or fits a budget."""

from __future__ import annotations

import contextlib
from typing import cast

from PIL.Image import Image

from benchmarks.common import Result
from benchmarks.engines import Frames
from benchmarks.setting import Setting
from svd_local.engine.session import Session
from svd_local.engine.streams import drained
from svd_local.engine.takes import Engine, Made, Take
from svd_local.engine.values import Report, Sampling, ignore_report
from svd_local.errors import OutOfMemory

PLANNED = ("fused", "reference")


class Planned:
    """``engine`` within ``budget`` bytes; on the CPU its living tensors are followed in `peak` alone."""

    def __init__(self, engine: str, setting: Setting, budget: int | None) -> None:
        self._engine = cast("Engine", engine)
        self._budget = budget
        self._session = Session(setting.checkpoint, setting.device, setting.precision, setting.wish)
        self._session.counts = False
        self._made: Made | None = None
        self._load_s: float | None = None

    def render(self, image: Image, sampling: Sampling, report: Report) -> Frames:
        """One clip; the first one loads.

        Raises:
            InvalidRequest: the budget is below the smallest plan; says the least that would do.
            OutOfMemory: the plan did not hold what it promised, so that the clip began again.
        """
        stream = self._session.make(
            image, sampling, engine=self._engine, budget=self._budget, report=report
        )
        takes = 0
        with contextlib.closing(stream):
            while True:
                try:
                    item = next(stream)
                except StopIteration as end:
                    made: Made = end.value
                    break
                if isinstance(item, Take):
                    takes += 1
                else:
                    yield item
                if takes > 1:
                    raise OutOfMemory(
                        "a clip was begun again after its first frames: no time of it means anything",
                        hint="Give the device more memory, or measure a smaller clip.",
                    )
        self._made = made
        self._load_s = made.load_s if self._load_s is None else self._load_s
        return made.phases

    @property
    def load_s(self) -> float:
        """Seconds that loading, folding and placing took, before the first clip."""
        assert self._load_s is not None
        return self._load_s

    def plan(self) -> Result:
        """What the last clip was made in, and what that was predicted to take."""
        assert self._made is not None
        memory = self._made.memory
        return {
            "plan": memory.plan,
            "predicted_peak_bytes": memory.predicted_peak_bytes,
            "ran_on": self._made.engine,
            "notes": list(self._made.notes),
        }

    def peak(self, image: Image, sampling: Sampling) -> int | None:
        """Bytes at the peak of one more clip, its living tensors followed."""
        self._session.counts = True
        try:
            drained(self.render(image, sampling, ignore_report))
        finally:
            self._session.counts = False
        assert self._made is not None
        return self._made.memory.measured_peak_bytes
