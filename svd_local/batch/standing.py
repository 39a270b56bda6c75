"""How a batch stands as seen from this machine: who of those that the catalog has at work is dead.

The catalog goes by leases and notes, which a killed command leaves behind for up to a minute. On the machine
where it ran, its sign of life tells at once. Looking changes nothing: the jobs of the dead are taken
from them by the next command that works on the batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svd_local.batch.liveness import lives
from svd_local.catalog.jobs import WORKER_LOST, Batch, Job, Reason, Run

if TYPE_CHECKING:
    from svd_local.catalog.jobs import Jobs

CUT_OFF = Reason(
    WORKER_LOST,
    "its worker, or the whole command, was killed",
    "The batch's own command makes it.",
)
"""Of a job that the catalog has running."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A batch, and what of it is not as the catalog has it."""

    batch: Batch
    """Without the pause of a command that is dead."""
    cut_off: int = 0
    """Of its running jobs, those whose workers are dead."""
    dead: frozenset[str] = field(default=frozenset())
    """These workers, by name."""

    def to_json(self) -> dict[str, Any]:
        return {**self.batch.to_json(), "cut_off": self.cut_off}

    def is_cut_off(self, job: Job) -> bool:
        """Whether ``job``, which the catalog has running, is with nobody."""
        return job.state == "running" and job.worker in self.dead

    def told(self, job: Job) -> Job:
        """``job``; where it is cut off, as what it is: waiting for the next command, and why."""
        if not self.is_cut_off(job):
            return job
        return dataclasses.replace(job, state="queued", reason=CUT_OFF)


def standing(jobs: Jobs, batch: Batch, media_dir: Path) -> Standing:
    """``batch`` as seen from here.

    Raises:
        StorageFailed: the catalog cannot be read.
    """
    pause = batch.pause
    if pause is not None and lives(media_dir, pause.who) is False:
        batch = dataclasses.replace(batch, pause=None)
    workers: Mapping[str, int] = jobs.workers(batch.id) if batch.counts.get("running") else {}
    dead = {name: count for name, count in workers.items() if lives(media_dir, name) is False}
    return Standing(batch, sum(dead.values()), frozenset(dead))


def as_seen(runs: Sequence[Run], media_dir: Path) -> list[Run]:
    """``runs``, those lost that the catalog has running and whose commands are dead."""
    return [
        run.lost() if run.state == "running" and lives(media_dir, run.who) is False else run
        for run in runs
    ]
