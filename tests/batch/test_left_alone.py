"""Rows that wait for a service lose no try by it, and a service that is gone for good is not waited for."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import batches
from servers import troubles
from servers.allowance import Allowance
from servers.scripted import serving
from servers.webui import WebUI

from svd_local.batch.events import JobPostponed
from svd_local.batch.options import BatchOptions
from svd_local.batch.run import run_batch
from svd_local.batch.summary import BatchSummary
from svd_local.batch.verdict import judge
from svd_local.errors import RemoteFailed, TierBusy
from svd_local.generator import VideoGenerator
from svd_local.tiers.base import Frames, Job, Tier
from svd_local.tiers.fake import FakeTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.webui import WebUITier

RESTING = Policy(deadline_s=5.0, failures=1, rest_s=0.15)
PATIENT = Policy(deadline_s=20.0, tries=3, backoff_s=0.02, longest_wait_s=5.0)
OPTIONS = {"lanes": 2, "tries": 2, "poll_s": 0.05, "backoff_s": 0.0}


class Service(FakeTier):
    """Fails so many clips, each the first time it is asked for; or, with -1, all clips always."""

    def __init__(self, failures: int, policy: Policy) -> None:
        super().__init__(enabled=True)
        self.policy, self.failures, self.asked = policy, failures, 0
        self.failed: set[str | None] = set()

    def generate(self, job: Job) -> Frames:
        self.asked += 1
        new = job.request.prompt not in self.failed and len(self.failed) < self.failures
        if new or self.failures < 0:
            self.failed.add(job.request.prompt)
            raise RemoteFailed("no")
        return super().generate(job)


def run(root: Path, service: Tier, rows: int, **fields: Any) -> tuple[BatchSummary, list[Any]]:
    told: list[Any] = []
    settings = batches.settings(root)
    specs = [batches.spec(n, fields=fields) for n in range(rows)]
    with VideoGenerator(settings, tiers=[service]) as generator:
        options = batches.options(root, **OPTIONS)
        return run_batch(settings, specs, options, told.append, generator=generator), told


def test_a_row_that_is_only_left_alone_loses_no_try(tmp_path: Path) -> None:
    tier = Service(3, RESTING)
    summary, told = run(tmp_path, tier, 5)
    assert (summary.made, summary.failures) == (5, ())
    assert tier.asked == 8
    alone = [
        e.job.attempt for e in told if isinstance(e, JobPostponed) and e.reason.code == "tier-busy"
    ]
    assert len(alone) >= 3
    assert set(alone) <= {0, 1}


def test_a_service_that_is_gone_for_good_is_given_up(tmp_path: Path) -> None:
    tier = Service(-1, dataclasses.replace(RESTING, forgiven_s=0.4))
    begun = time.monotonic()
    summary, _ = run(tmp_path, tier, 6)
    assert len(summary.failures) == 6
    assert tier.asked < 12
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize("tells", [True, False], ids=["told", "silent"])
def test_every_path_throttled(tmp_path: Path, tells: bool) -> None:
    allowance = Allowance(0.3, tells=tells)
    with serving(WebUI("sdnext", svd=False)) as server:
        server.meet("*", allowance, always=True)
        server.dialect.lists_scripts = False  # type: ignore[attr-defined]
        tier = WebUITier(server.url, policy=PATIENT, paces=tmp_path / ".pace")
        summary, _ = run(tmp_path, tier, 4, tier="webui", duration=1.0)
    assert (summary.made, summary.failures, summary.postponed) == (4, (), 0)
    assert allowance.refused <= 3


def test_the_first_questions_throttled(tmp_path: Path) -> None:
    with serving(WebUI()) as server:
        server.meet("*/options", *[troubles.status(429, retry_after="0.3")] * 3)
        tier = WebUITier(server.url, policy=PATIENT)
        summary, _ = run(tmp_path, tier, 4, tier="webui", duration=1.0)
    assert (summary.made, summary.failures) == (4, ())
    assert summary.postponed >= 1  # one used its tries up within itself; the others waited


def test_a_service_is_not_waited_for_longer_than_an_hour() -> None:
    options = BatchOptions("x", Path())
    verdict = judge(TierBusy("no", retry_after_s=86400), 1, options)
    assert (verdict.delay_s, verdict.counts, verdict.final) == (3600, True, False)
    unasked = TierBusy("no", retry_after_s=5)
    unasked.unasked = True
    assert not judge(unasked, 1, options).counts
