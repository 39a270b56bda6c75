"""What a whole batch would take: clips, time, memory, disk, licences."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svd_local.batch.outlook import Outlook
from svd_local.batch.pace import Hands, Pace
from svd_local.batch.space import free_bytes


@dataclass(slots=True)
class _Share:
    """The clips of one tier, checkpoint and speed."""

    clips: int = 0
    bytes: int = 0
    bytes_measured: bool = True
    pace: Pace | None = None
    peak: int | None = None
    plan: str | None = None


@dataclass(slots=True)
class Forecast:
    """Sums over the clips that can be made. ``add`` each, then read."""

    hands: Hands = field(default_factory=Hands)
    """Who makes them."""
    over: Counter[str] = field(default_factory=Counter)
    """Clips that are over already, by their jobs' states; nothing else here counts them."""
    clips: int = 0
    bytes: int = 0
    """Of their files, posters included; not below what they will be unless measured."""
    leaving: int = 0
    """Clips whose picture or words would leave this machine."""
    licences: dict[str, str] = field(default_factory=dict)
    """Checkpoint -> licence, of those that are used."""
    remarks: list[str] = field(default_factory=list)
    """Why better tiers are passed over, and what happens first; each once."""
    _shares: dict[tuple[str | None, ...], _Share] = field(default_factory=dict)

    def add(self, outlook: Outlook, clips: int) -> None:
        """Count ``clips`` more of one kind."""
        if not clips:
            return
        share = self._shares.setdefault(
            (outlook.tier, outlook.kind, outlook.checkpoint, outlook.speed), _Share()
        )
        share.clips += clips
        share.pace = outlook.pace
        share.bytes += clips * (outlook.bytes or 0)
        share.bytes_measured &= outlook.bytes_measured
        if outlook.memory is not None:
            peak = outlook.memory.predicted_peak_bytes or 0
            if share.peak is None or peak > share.peak:
                share.peak, share.plan = peak, outlook.memory.plan
        self.clips += clips
        self.bytes += clips * (outlook.bytes or 0)
        self.leaving += clips * outlook.leaves_machine
        if outlook.checkpoint is not None and outlook.licence is not None:
            self.licences[outlook.checkpoint] = outlook.licence
        for remark in outlook.passed_over:
            if remark not in self.remarks:
                self.remarks.append(remark)

    @property
    def seconds(self) -> float | None:
        """From the beginning to the end, one kind after the other; None where some kind was never made
        here.
        """
        paces = [(share.pace, share.clips) for share in self._shares.values()]
        if not paces:
            return 0.0 if self.over else None
        total = 0.0
        for pace, clips in paces:
            if pace is None:
                return None
            total += pace.whole_s(clips, self.hands)
        return total

    def to_json(self, out: Path) -> dict[str, Any]:
        """All of it, with what is free where ``out`` is."""
        return {
            "clips": self.clips,
            "over": dict(self.over),
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "lanes": self.hands.lanes,
            "workers": self.hands.workers,
            "bytes": self.bytes,
            "free_bytes": free_bytes(out),
            "leaving_machine": self.leaving,
            "licences": dict(sorted(self.licences.items())),
            "remarks": list(self.remarks),
            "groups": [
                {
                    "tier": key[0],
                    "kind": key[1],
                    "checkpoint": key[2],
                    "speed": key[3],
                    "clips": share.clips,
                    "seconds_per_clip": None
                    if share.pace is None
                    else round(share.pace.each_s(self.hands.lanes), 3),
                    "seconds_of_work": None if share.pace is None else share.pace.work_s,
                    "bytes": share.bytes,
                    "bytes_measured": share.bytes_measured,
                    "memory_plan": share.plan,
                    "predicted_peak_bytes": share.peak,
                }
                for key, share in self._shares.items()
            ],
        }
