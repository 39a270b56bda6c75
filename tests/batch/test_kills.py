"""Batches killed at random moments, and run again: nothing is lost, and nothing made twice."""

from __future__ import annotations

import os

import pytest
from servers.databases import VARIABLE

from benchmarks.batch_kills import measure

MANY = [pytest.mark.long, pytest.mark.timeout(3000)]


@pytest.mark.parametrize(
    ("server", "kills"),
    [
        ("sqlite", 10),
        pytest.param("sqlite", 200, marks=MANY),
        pytest.param("postgresql", 200, marks=MANY),
    ],
    indirect=["server"],
)
def test_killed_at_random_moments_it_goes_on(server: str, kills: int) -> None:
    result = measure(kills, seed=kills, server=os.environ.get(VARIABLE))
    assert result["database"] == server
    assert result["wrong"] == []
    assert result["kills"] >= kills
    assert 3 * result["within_publication"] >= result["kills"]
