"""Batches on supervised workers of the fake tier."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from svd_local.batch.control import Control
from svd_local.batch.events import Event
from svd_local.batch.options import BatchOptions
from svd_local.batch.spec import JobSpec
from svd_local.batch.workers.supervise import Staff, supervise
from svd_local.catalog import Catalog
from svd_local.tiers.gpus import Gpu

SCRIPTED = Path(__file__).with_name("scripted_worker.py")


def gpu(uuid: str) -> Gpu:
    return Gpu("NVIDIA Testing 9000", 2**30, 2**30, "999", uuid, uuid)


def spec(number: int, prompt: str) -> JobSpec:
    fields = {
        "prompt": prompt,
        "tier": "fake",
        "seed": 100 + number,
        "steps": 1,
        "size": "256x144",
        "resolution": "native",
        "frames": 14,
    }
    return JobSpec(number + 2, number, f"{number:064x}", fields, None, None)


class Night:
    """A batch on supervised fake workers, and what was told of it."""

    def __init__(self, settings, tmp_path: Path) -> None:
        self.marks = tmp_path / "marks"
        self.settings = settings
        self.options = BatchOptions("night", tmp_path / "out", poll_s=0.1, backoff_s=0.0)
        self.events: list[Event] = []
        self.control = Control()

    def run(self, prompts, places=(None,), on=None, **options):
        def tell(event):
            self.events.append(event)
            if on is not None:
                on(event)

        staff = Staff(places, (sys.executable, str(SCRIPTED)), restart_s=0.05)
        values = {name: getattr(self.options, name) for name in BatchOptions.__slots__} | options
        specs = [spec(number, prompt) for number, prompt in enumerate(prompts)]
        return supervise(self.settings, specs, BatchOptions(**values), tell, self.control, staff)

    def told(self, *kinds):
        return [event for event in self.events if isinstance(event, kinds)]

    def jobs(self):
        with Catalog(self.settings.database_url, self.settings.media_dir) as catalog:
            batch = catalog.jobs.batch("night")
            return catalog.jobs.jobs(batch.id, limit=None)

    def states(self):
        return Counter(job.state for job in self.jobs())

    def videos(self):
        return sorted(self.options.folder.rglob("*.mp4"))

    def left(self):
        """Temporary files and folders that nobody swept."""
        return list(self.options.folder.rglob(".svd-*"))
