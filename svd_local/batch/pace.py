"""How fast clips of a kind follow one another, going by those that were made before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Hands:
    """Who makes a batch."""

    lanes: int = 2
    """Clips in the making at once, of each worker."""
    workers: int = 1
    """Workers, each with a machine, or a GPU, of its own."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of one clip."""

    work_s: float
    """All of its own, models being loaded."""
    turn_s: float
    """Of these, what no other clip can be made beside: the rest runs beside another clip's turn."""
    load_s: float = 0.0
    """What loading the models takes, once for each worker."""

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> Pace:
        """From one of the catalog's ``figures``."""
        return cls(group["warm_median"], group["turn_median"], group["load_median"] or 0.0)

    def each_s(self, lanes: int) -> float:
        """Seconds from one clip to the next, of many, by one worker.

        With one lane a clip begins when the last one is finished. With more the slowest resource says:
        what one clip at a time has to itself, or the lanes, each of which has a clip for all of its work.
        """
        return self.work_s if lanes == 1 else max(self.turn_s, self.work_s / lanes)

    def whole_s(self, clips: int, hands: Hands) -> float:
        """Seconds from the first clip's beginning to the last one's end."""
        if not clips:
            return 0.0
        each = self.each_s(hands.lanes)
        rounds = math.ceil(clips / hands.workers)
        return self.load_s + max(self.work_s - each, 0.0) + rounds * each
