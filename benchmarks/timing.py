"""Milliseconds of one operation, repeated: on the GPU by its own clock, so that launches overlap."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import torch

from benchmarks.common import spread

WARM_UP = 2
LEAST, MOST = 3, 50


def milliseconds(
    work: Callable[[], object], device: str, *, for_s: float = 0.15
) -> dict[str, float]:
    """Spread over as many repetitions as fill ``for_s`` seconds, at least 3."""
    for _ in range(WARM_UP):
        work()
    on_gpu = device.startswith("cuda")
    measure = _by_events if on_gpu else _by_clock
    (first,) = measure(work, 1)
    repeats = min(max(int(for_s * 1e3 / max(first, 1e-3)), LEAST), MOST)
    return spread(measure(work, repeats), 5)


def _by_clock(work: Callable[[], object], repeats: int) -> list[float]:
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1e3)
    return taken


def _by_events(work: Callable[[], object], repeats: int) -> list[float]:
    marks = [
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(repeats + 1)
    ]
    torch.cuda.synchronize()
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in pairwise(marks)]
