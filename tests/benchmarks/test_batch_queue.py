"""The measurement of a batch's queue, and with it processes that claim side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import batch_queue


def test_processes_claim_no_job_twice_and_finish_each(tmp_path: Path) -> None:
    found = batch_queue.unencoded(tmp_path / "queue", jobs=30, workers=2)
    assert found["claimed_twice"] == 0
    assert found["jobs_per_s"] > 0


@pytest.mark.long
def test_every_part_is_measured(tmp_path: Path) -> None:
    result = batch_queue.measure(jobs=2000, workers=8, clips=16)
    assert result["unencoded"]["claimed_twice"] == 0
    assert result["whole_clips"]["clips_per_s"] > 0
    assert result["added"]["clips"] == 16
