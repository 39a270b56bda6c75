"""Figures over the catalog: how many clips, how large, how long they take to make."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from svd_local.catalog.models import ClipRow
from svd_local.result import Timings

FIGURED = select(
    ClipRow.kind,
    ClipRow.tier,
    ClipRow.checkpoint,
    ClipRow.speed,
    ClipRow.elapsed_s,
    ClipRow.document["timings"],
    ClipRow.duration_s,
    ClipRow.bytes,
).where(~ClipRow.removing)
"""What ``figures`` is made from, a ``Measured`` each."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of one clip that was made."""

    kind: str
    group: tuple[str | None, ...]
    """Tier, checkpoint and speed."""
    worked_s: float
    """Its own seconds: waiting for other clips is not in them."""
    held_s: float
    """Of these, what no other clip could be made beside."""
    load_s: float
    """Of those, what its models took to load; 0 where they were there."""
    duration_s: float
    bytes: int

    @classmethod
    def of(
        cls,
        kind: str,
        group: tuple[str | None, ...],
        elapsed_s: float,
        timings: Mapping[str, float | None] | None,
        duration_s: float | None,
        size: int | None,
    ) -> Measured:
        """From what is written down of the clip, by this version or an older one."""
        known = Timings(**(timings or {}))
        return cls(
            kind,
            group,
            known.worked_s(elapsed_s),
            known.held_s(elapsed_s),
            known.load_s or 0.0,
            duration_s or 0.0,
            size or 0,
        )


def measured(rows: Iterable[Sequence[Any]]) -> Iterable[Measured]:
    """The clips of what ``FIGURED`` selects."""
    for kind, tier, checkpoint, speed, elapsed_s, timings, duration_s, size in rows:
        group = (tier, checkpoint, speed)
        yield Measured.of(kind, group, elapsed_s, timings, duration_s, size)


def figures(clips: Iterable[Measured]) -> dict[str, Any]:
    """Counts, bytes and seconds, in all and by tier, checkpoint and speed, as JSON.

    ``seconds_median`` and ``seconds_p95`` are of the clips' own time, see ``median_and_p95``; null where
    there is no clip. What a batch will take is foreseen from three more medians of each group:
    ``warm_median`` of the same without the loading of models, ``turn_median`` of what no other clip
    can be made beside, ``load_median`` of what loading took, null where nothing was loaded.
    """
    kinds: Counter[str] = Counter()
    groups: defaultdict[tuple[str | None, ...], list[Measured]] = defaultdict(list)
    for clip in clips:
        kinds[clip.kind] += 1
        groups[clip.group].append(clip)
    every = [clip for group in groups.values() for clip in group]
    return {
        "clips": kinds.total(),
        "bytes": sum(clip.bytes for clip in every),
        "duration_s": round(sum(clip.duration_s for clip in every), 3),
        **median_and_p95([clip.worked_s for clip in every]),
        "by_kind": dict(sorted(kinds.items())),
        "groups": [
            _of_group(name, groups[name])
            for name in sorted(groups, key=lambda name: [part or "" for part in name])
        ],
    }


def _of_group(name: tuple[str | None, ...], clips: Sequence[Measured]) -> dict[str, Any]:
    tier, checkpoint, speed = name
    return {
        "tier": tier,
        "checkpoint": checkpoint,
        "speed": speed,
        "clips": len(clips),
        "bytes": sum(clip.bytes for clip in clips),
        **median_and_p95([clip.worked_s for clip in clips]),
        "warm_median": _median([clip.worked_s - clip.load_s for clip in clips]),
        "turn_median": _median([clip.held_s - clip.load_s for clip in clips]),
        "load_median": _median([clip.load_s for clip in clips if clip.load_s]),
    }


def median_and_p95(seconds: Sequence[float]) -> dict[str, float | None]:
    """``seconds_median`` and ``seconds_p95``, to the millisecond; null where there are none.

    The 95th percentile is the nearest rank: a time that was measured, and that 95 of 100 clips did
    not exceed.
    """
    return {
        "seconds_median": _median(seconds),
        "seconds_p95": round(_nearest_rank(seconds, 95), 3) if seconds else None,
    }


def _median(seconds: Sequence[float]) -> float | None:
    """To the millisecond, at least 0; None where there are none."""
    return round(max(0.0, statistics.median(seconds)), 3) if seconds else None


def _nearest_rank(values: Sequence[float], percent: int) -> float:
    return sorted(values)[-(-len(values) * percent // 100) - 1]
