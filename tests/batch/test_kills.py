"""Batches killed at random moments, and run again: nothing is lost, and nothing made twice."""

from __future__ import annotations

import pytest

from benchmarks.batch_kills import measure


@pytest.mark.parametrize(
    "kills", [10, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3000)])]
)
def test_killed_at_random_moments_it_goes_on(kills: int) -> None:
    result = measure(kills, seed=kills)
    assert result["wrong"] == []
    assert result["kills"] >= kills
    assert 3 * result["within_publication"] >= result["kills"]
