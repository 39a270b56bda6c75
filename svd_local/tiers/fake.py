"""The fake tier: made-up frames and made-up failures, for tests of programs that use this package.

It asks for no model and no GPU, yet goes through everything a real clip does: keyframe, progress,
cancellation, encoding, storing, cache. Its clips say ``synthetic: true``.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from svd_local.errors import (
    BadOutput,
    InvalidRequest,
    OutOfMemory,
    SvdLocalError,
    TierBusy,
    TierFailed,
    TierUnavailable,
)
from svd_local.request import ClipRequest, Native, generated_parameters, output_size
from svd_local.tiers.base import Availability, Frames, Job, Monitor, Plan
from svd_local.tiers.policy import Policy

if TYPE_CHECKING:
    import numpy as np

_NATIVE = Native(width=256, height=144, frames=14)
_VERSION = 1
_SLICE_S = 0.05
_ENABLE = "SVD_LOCAL_ENABLE_FAKE_TIER"
_SCRIPT = "SVD_LOCAL_FAKE_FAILURES"
_WORD = re.compile(r"(?P<times>\d+)|(?P<word>[a-z-]+)(?:\*(?P<repeat>\d+))?")
_MOST_CLIPS = 10_000

_ENDINGS: dict[str, Callable[[], SvdLocalError] | None] = {
    "ok": None,
    "busy": lambda: TierBusy("the fake tier was told to be busy", retry_after_s=30.0),
    "failed": lambda: TierFailed("the fake tier was told to fail"),
    "bad-output": lambda: BadOutput("the fake tier was told to make black frames"),
    "out-of-memory": lambda: OutOfMemory("the fake tier was told to run out of memory"),
}


class FakeTier:
    """Frames of a drifting gradient that depend on the seed and the request's size alone.

    Args:
        enabled: whether it may be used (``SVD_LOCAL_ENABLE_FAKE_TIER``).
        seconds: how long a clip takes, spread over its steps (``SVD_LOCAL_FAKE_SECONDS``).
        failures: how the clips end, one word each in the order they are made, with commas between:
            ``ok``, ``busy`` (retry in 30 s), ``failed``, ``bad-output``, ``out-of-memory``;
            ``busy*3`` says it three times, and a bare number is that many ``failed``. After its end
            all clips succeed. A failing clip takes its time too. (``SVD_LOCAL_FAKE_FAILURES``)

    Raises:
        InvalidRequest: ``failures`` has a word that is none of these.
    """

    id = "fake"
    policy: Policy | None = None

    def __init__(self, enabled: bool, seconds: float = 0.0, failures: str = "") -> None:
        self._enabled = enabled
        self._seconds = seconds
        self._failures = failures
        self._endings = iter(_script(failures))
        self._lock = threading.Lock()

    def availability(self, request: ClipRequest | None = None) -> Availability:
        """Only where it was enabled on purpose."""
        if self._enabled:
            return Availability(True, f"enabled by {_ENABLE}")
        return Availability(False, "it makes up its frames, for tests", hint=f"Set {_ENABLE}=1.")

    def plan(self, request: ClipRequest, monitor: Monitor | None = None) -> Plan:
        """As a small checkpoint would plan it: 14 frames of 256x144 unless asked otherwise.

        Raises:
            TierUnavailable: it is not enabled.
        """
        here = self.availability()
        if not here.available:
            raise TierUnavailable(f"fake tier: {here.reason}", hint=here.hint)
        generated, corrections = generated_parameters(request, _NATIVE)
        size = (generated.width, generated.height)
        return Plan(
            tier=self.id,
            kind="generated",
            size=size,
            parameters=generated.to_json(),
            # Clips of another script are no answer to this one: its failures have to happen.
            fingerprint={"fake": _VERSION, "failures": self._failures},
            fps=generated.fps,
            output_size=output_size(size, request.resolution),
            corrections=corrections,
            synthetic=True,
        )

    def generate(self, job: Job) -> Frames:
        """Take the time, then make the frames or fail, as the script says.

        Raises:
            TierBusy, TierFailed, BadOutput, OutOfMemory: the script says so.
            Cancelled: the caller asked to stop.
        """
        with self._lock:
            ending = next(self._endings, None)
        steps = int(job.plan.parameters["steps"])
        job.monitor.report("denoise", 0, steps)
        for step in range(1, steps + 1):
            _wait(self._seconds / steps, job.monitor)
            job.monitor.report("denoise", step, steps)
        if ending is not None:
            raise ending()
        (width, height), count = job.plan.size, int(job.plan.parameters["frames"])
        seed = int(job.plan.parameters["seed"])
        return Frames(count, width, height, _gradient(seed, count, width, height))

    def close(self) -> None:
        """Nothing is held."""


def _script(failures: str) -> list[Callable[[], SvdLocalError] | None]:
    """The endings a script names, in order."""
    endings: list[Callable[[], SvdLocalError] | None] = []
    for word in filter(None, (part.strip() for part in failures.split(","))):
        match = _WORD.fullmatch(word)
        name = None if match is None else match["word"] or "failed"
        if match is None or name not in _ENDINGS:
            raise InvalidRequest(
                f"{_SCRIPT}: {word[:40]!r} is no ending of a clip",
                hint=f"Write {', '.join(_ENDINGS)} with commas between, busy*3, or a number.",
                field=_SCRIPT,
            )
        times = int(match["times"] or match["repeat"] or 1)
        endings += [_ENDINGS[name]] * min(times, _MOST_CLIPS)
    return endings


def _wait(seconds: float, monitor: Monitor) -> None:
    """Sleep in short slices, so that a cancelled clip ends at once."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE_S))
        monitor.check()


def _gradient(
    seed: int, count: int, width: int, height: int
) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Three waves of colour, their directions and speeds drawn from ``seed``; one frame a chunk."""
    import numpy as np

    rng = np.random.default_rng(seed)
    turn = 2 * np.pi
    angle, phase = rng.uniform(0, turn, 3), rng.uniform(0, turn, 3)
    speed = rng.uniform(0.4, 1.2, 3) * rng.choice([-1, 1], 3)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., np.newaxis]
    slope = turn * (x * np.cos(angle) + y * np.sin(angle)) + phase
    for frame in range(count):
        wave = np.sin(slope + turn * speed * frame / count)
        yield np.rint(127.5 + 100 * wave).astype(np.uint8)[np.newaxis]
