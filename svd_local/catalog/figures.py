"""Figures over the catalog: how many clips, how large, how long they take to make."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select

from svd_local.catalog.models import ClipRow

FIGURED = select(
    ClipRow.kind,
    ClipRow.tier,
    ClipRow.checkpoint,
    ClipRow.speed,
    ClipRow.elapsed_s,
    ClipRow.duration_s,
    ClipRow.bytes,
).where(~ClipRow.removing)
"""What ``figures`` is made from."""


def figures(rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """Counts, bytes and seconds, in all and by tier, checkpoint and speed, as JSON.

    ``seconds_median`` and ``seconds_p95`` are of the time a clip took to make, see
    ``median_and_p95``; null where there is no clip.
    """
    kinds: Counter[str] = Counter()
    seconds: defaultdict[tuple[str | None, ...], list[float]] = defaultdict(list)
    sizes: Counter[tuple[str | None, ...]] = Counter()
    total_s = 0.0
    for kind, tier, checkpoint, speed, elapsed_s, duration_s, size in rows:
        kinds[kind] += 1
        group = (tier, checkpoint, speed)
        seconds[group].append(elapsed_s)
        sizes[group] += size
        total_s += duration_s or 0.0
    groups = [
        {
            "tier": group[0],
            "checkpoint": group[1],
            "speed": group[2],
            "clips": len(values),
            "bytes": sizes[group],
            **median_and_p95(values),
        }
        for group, values in seconds.items()
    ]
    every = [value for values in seconds.values() for value in values]
    return {
        "clips": kinds.total(),
        "bytes": sizes.total(),
        "duration_s": round(total_s, 3),
        **median_and_p95(every),
        "by_kind": dict(sorted(kinds.items())),
        "groups": sorted(
            groups, key=lambda g: [g[name] or "" for name in ("tier", "checkpoint", "speed")]
        ),
    }


def median_and_p95(seconds: Sequence[float]) -> dict[str, float | None]:
    """``seconds_median`` and ``seconds_p95``, to the millisecond; null where there are none.

    The 95th percentile is the nearest rank: a time that was measured, and that 95 of 100 clips did
    not exceed.
    """
    if not seconds:
        return {"seconds_median": None, "seconds_p95": None}
    return {
        "seconds_median": round(statistics.median(seconds), 3),
        "seconds_p95": round(_nearest_rank(seconds, 95), 3),
    }


def _nearest_rank(values: Sequence[float], percent: int) -> float:
    return sorted(values)[-(-len(values) * percent // 100) - 1]
