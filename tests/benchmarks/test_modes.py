"""Every mode makes the same clip its own way, and says how far that is from the exact one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from benchmarks.setting import Setting


def test_every_mode_is_measured_against_the_exact_one(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.modes import CACHES, measure
    from svd_local.engine.fused import fp8

    monkeypatch.setattr(fp8, "LEAST_INPUTS", 64)
    result = measure(setting, steps=3, runs=1)

    assert (result["benchmark"], result["synthetic"]) == ("modes", True)
    assert "no statement about quality" in result["note"]
    rows = {row["name"]: row for row in result["modes"]}
    cached = [f"cached {interval}, {depth}" for interval, depth in CACHES]
    assert list(rows) == ["exact", "fast", *cached, "fp8", "fp8+cached", "distilled"]
    assert rows["exact"]["from_exact"] is None
    assert [rows[name]["speed"] for name in ("exact", *cached, "distilled")] == [
        *("exact", *["cached"] * len(cached), "distilled")
    ]
    assert (rows["distilled"]["steps"], rows["distilled"]["schedule"]) == (4, "consistency")
    assert "only the time" in rows["distilled"]["note"]
    assert rows["fp8"]["speed"] == "fp8"
    assert rows["fp8+cached"]["cache_interval"] == CACHES[1][0]
    for name in ("fast", *cached, "fp8", "fp8+cached", "distilled"):
        assert rows[name]["from_exact"]["latents"] > 0, name
        assert rows[name]["times_faster"]["n"] == 1
    # Three steps leave out the same two at intervals of three and of five.
    assert rows["cached 3, 1"]["from_exact"] == rows["cached 5, 1"]["from_exact"]
    near, far = (rows[f"cached 3, {depth}"]["from_exact"]["latents"] for depth in (6, 1))
    assert near < far


def test_the_distance_is_what_it_says() -> None:
    from benchmarks.modes import Made, distance

    exact = Made([1.0], torch.ones(1, 4), np.full((1, 2, 2, 3), 100, np.uint8))
    moved = Made([1.0], 1.5 * torch.ones(1, 4), np.full((1, 2, 2, 3), 110, np.uint8))

    assert distance(moved, exact) == {
        "latents": 0.5,
        "grey_levels": 10.0,
        "psnr_db": pytest.approx(10 * np.log10(255**2 / 100), abs=0.01),
    }
    assert distance(exact, exact)["psnr_db"] is None
