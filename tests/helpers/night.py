"""One batch in this process, on a tier of the test's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers import batches
from servers.databases import database_of

from svd_local.batch.control import Control
from svd_local.batch.events import Event
from svd_local.batch.run import run_batch
from svd_local.batch.summary import BatchSummary
from svd_local.catalog import Catalog
from svd_local.generator import VideoGenerator
from svd_local.tiers.base import Frames, Job
from svd_local.tiers.fake import FakeTier


class Tier(FakeTier):
    """The fake tier; ``before`` is called with every clip that is really made, and may raise."""

    def __init__(self, failures: str = "", seconds: float = 0.0) -> None:
        super().__init__(enabled=True, seconds=seconds, failures=failures)
        self.before: Callable[[Job], None] = lambda job: None
        self.made: list[str | None] = []

    def generate(self, job: Job) -> Frames:
        self.before(job)
        self.made.append(job.request.prompt)
        return super().generate(job)


class Night:
    """One batch on one tier, run as often as wanted, and what was told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tier = Tier()
        self.control = Control()
        self.told: list[Event] = []
        self.on: Callable[[Event], None] = lambda event: None

    def run(
        self, specs: Any, machine: dict[str, Any] | None = None, **options: Any
    ) -> BatchSummary:
        def tell(event: Event) -> None:
            self.told.append(event)
            self.on(event)

        settings = batches.settings(self.root, database_of(self.root), **(machine or {}))
        with VideoGenerator(settings, tiers=[self.tier]) as generator:
            return run_batch(
                settings,
                specs,
                batches.options(self.root, **options),
                tell,
                control=self.control,
                generator=generator,
            )

    def catalog(self) -> Catalog:
        return Catalog(database_of(self.root), self.root / "media")

    def faults(self, specs: Any) -> list[str]:
        return batches.faults(self.root, specs, database_of(self.root))

    def kinds(self) -> Counter[str]:
        return Counter(type(event).__name__ for event in self.told)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]
