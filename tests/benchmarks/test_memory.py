"""A cap is a plan and its outcome, and what did not fit is a result as well."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def arguments(tmp_path: Path) -> argparse.Namespace:
    from benchmarks.memory import parse

    given = parse(["--steps", "1", "--frames", "2", "--width", "128", "--height", "64"])
    given.pixels = tmp_path / "pixels.npy"
    return given


def test_one_cap_says_what_was_planned_and_what_it_took(arguments: argparse.Namespace) -> None:
    from benchmarks.memory import one_cap

    arguments.caps = [1.0]
    run = one_cap(arguments)
    assert (run["outcome"], run["engine"]) == ("ok", "fused")
    assert run["budget_bytes"] == 2**30
    assert 0 < run["predicted_peak_bytes"] < 2**30
    assert run["step_ms"]["n"] == 1
    assert np.load(arguments.pixels).shape == (2, 64, 128, 3)


def test_a_cap_that_nothing_fits_is_told(arguments: argparse.Namespace) -> None:
    from benchmarks.memory import one_cap

    arguments.caps = [0.001]
    run = one_cap(arguments)
    assert run["outcome"] == "invalid-request"
    assert "Allow at least" in run["error"]
    assert not arguments.pixels.exists()


def test_each_cap_is_compared_with_no_cap(
    arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import memory

    clip = np.full((2, 4, 4, 3), 100, np.uint8)
    outcomes = {
        None: ({"cap_gib": None, "outcome": "ok"}, clip),
        8.0: ({"cap_gib": 8.0, "outcome": "ok"}, clip + 1),
        4.0: ({"cap_gib": 4.0, "outcome": "died"}, None),
    }
    monkeypatch.setattr(memory, "in_own_process", lambda _, cap, __: outcomes[cap])
    arguments.caps = [4.0, 8.0]
    result = memory.measure(arguments)
    assert [run["cap_gib"] for run in result["runs"]] == [None, 8.0, 4.0]
    assert result["runs"][1]["against_uncapped"]["most"] == 1
    assert "against_uncapped" not in result["runs"][2]
    assert result["synthetic"] is True


def test_a_process_that_dies_is_an_outcome(
    arguments: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import memory

    def died(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[command.index("--caps") + 1] == "4.0"
        return subprocess.CompletedProcess(command, -9, "", "many words\nthe last one\n")

    monkeypatch.setattr(memory.subprocess, "run", died)
    run, pixels = memory.in_own_process(arguments, 4.0, tmp_path)
    assert run == {"cap_gib": 4.0, "outcome": "died", "error": "the last one"}
    assert pixels is None
