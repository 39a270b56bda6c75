"""What becomes of the jobs that a dead worker had at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from svd_local.batch.events import Event, JobDone, JobFailed, JobLost, JobPostponed, JobReleased
from svd_local.batch.ground import Ground
from svd_local.batch.plan import place_of
from svd_local.batch.summary import Tally
from svd_local.catalog.jobs import WORKER_LOST, WORKER_LOST_HINT, Job, Reason
from svd_local.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Dead:
    """A worker that ended with jobs at hand."""

    name: str
    """What it took jobs under."""
    jobs: Mapping[int, Job]
    why: str
    log: Path
    tried: bool = True
    """False where it was ended because the batch was stopped: no fault of its jobs."""


class Burial:
    """Queues again what the dead had at hand, or says what else has become of it.

    Args:
        adopt: adopts what dead workers left in a folder; answers the ids of the jobs done by it.
    """

    def __init__(
        self,
        ground: Ground,
        tally: Tally,
        tell: Callable[[Event], None],
        adopt: Callable[[Path], set[int]],
    ) -> None:
        self._ground = ground
        self._tally = tally
        self._tell = tell
        self._adopt = adopt
        self._graves: list[Dead] = []
        self._deaths: Counter[int] = Counter()

    def add(self, dead: Dead) -> None:
        if dead.tried:
            self._deaths.update(dead.jobs.keys())
        self._graves.append(dead)

    def bury(self) -> None:
        """See to all that were added. Raises ``StorageFailed``, and may then be called again."""
        while self._graves:
            dead = self._graves[0]
            adopted = self._adopt_from(dead)
            reasons = {id_: self._reason(dead, id_) for id_ in dead.jobs}
            if dead.tried:
                tries = self._ground.options.tries
                self._ground.jobs.release_dead(dead.name, reasons, tries=tries)
            else:
                self._ground.jobs.release_ended(dead.name)
            now = [self._ground.jobs.job(id_) for id_ in dead.jobs]
            self._graves.pop(0)
            for job in now:
                if job.id not in adopted:
                    self._tell_what_became_of(job, reasons[job.id], dead)

    def _adopt_from(self, dead: Dead) -> set[int]:
        """A clip that was published a moment before its worker's death is as good as any."""
        ids: set[int] = set()
        for name in {job.folder for job in dead.jobs.values()}:
            with suppress(InvalidRequest):  # its job will say so
                folder = place_of(name, self._ground.options.folder)
                if folder.is_dir():
                    ids |= self._adopt(folder)
        return ids

    def _reason(self, dead: Dead, job_id: int) -> Reason:
        times = self._deaths[job_id]
        often = "" if times == 1 else f" {times} times, the last time"
        return Reason(
            WORKER_LOST,
            f"its worker died{often}: {dead.why}",
            f"{WORKER_LOST_HINT} {dead.log} has what it said last.",
        )

    def _tell_what_became_of(self, job: Job, reason: Reason, dead: Dead) -> None:
        if job.state == "queued" and not dead.tried:
            self._tell(JobReleased(job))
        elif job.state == "queued":
            self._tally.count("postponed")
            self._tell(JobPostponed(job, reason))
        elif job.state == "failed":
            self._tell(JobFailed(job, job.reason or reason))
        elif job.state == "done" and job.worker == dead.name and job.clip_id is not None:
            done = JobDone(job, self._ground.catalog.get(job.clip_id).to_clip())
            self._tally.done(done.clip)  # it died with the news on its lips
            self._tell(done)
        elif job.state != "done":
            self._tell(JobLost(job))
