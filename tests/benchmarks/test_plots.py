"""Every plot is drawn from results alone, also those that no GPU was there for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import plots, tables


def spread(median: float) -> dict[str, float]:
    return {"median": median, "min": 0.9 * median, "max": 1.2 * median, "n": 3}


def made_up() -> list[dict[str, Any]]:
    """One result of each kind, on a GPU that does not exist."""
    common = {"gpu": "Card 9000", "dtype": "float16", "frames": 25, "width": 1024, "height": 576}
    counted = {"reference": 160e12, "fused": 150e12}
    run = {
        "outcome": "ok",
        "plan": "resident",
        "measured_peak_bytes": 20 * 2**30,
        "step_ms": spread(280),
    }
    small = {**run, "plan": "weights streamed", "measured_peak_bytes": 2**30}
    return [
        {"benchmark": "flops", "frames": 25, "step": counted, "decode": counted},
        {**common, "benchmark": "clip", "engine": "fused", "steps": 25, "gpu_s": 8.0},
        {**common, "benchmark": "clip", "engine": "fused", "steps": 10, "gpu_s": 3.0},
        {
            **common,
            "benchmark": "ceilings",
            "ceilings": {"product": {"tflop_per_s": {"float16": 750.0}}},
        },
        {
            **common,
            "benchmark": "ablation",
            "device": "cuda",
            "threads": 1,
            "step": {"name": "step", "speedup": spread(1.5)},
            "parts": [],
            "savings": [{"name": "tables", "times_as_long": spread(1.1)}],
        },
        {
            **common,
            "benchmark": "memory",
            "engine": "fused",
            "runs": [run, small, {"outcome": "out-of-memory"}],
        },
        {
            "benchmark": "memoryplan",
            "clips": [{"frames": 14, "plans": [{"plan": "resident", "peak_bytes": 2**34}]}],
        },
    ]


def test_each_is_drawn_once_from_made_up_results(tmp_path: Path) -> None:
    plots.draw_all(made_up(), tmp_path)
    names = {plot.name for plot in plots.PLOTS} - {"ablation_cpu"}
    assert {path.stem for path in tmp_path.iterdir()} == names
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.width == round(plots.WIDTH_IN * plots.DPI)
            colours = picture.convert("RGB").getcolors(2**24)
            assert colours is not None
            assert len(colours) > 20
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    plots.draw_all(made_up(), tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_what_has_no_results_any_more_goes(tmp_path: Path) -> None:
    only = [one for one in made_up() if one["benchmark"] == "flops"]
    plots.draw_all(only, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["work.png"]
    changed = [{**only[0], "frames": 14}]
    before = plots.drawn(tmp_path / "work.png")
    plots.draw_all(changed, tmp_path)
    assert plots.drawn(tmp_path / "work.png") != before
    plots.draw_all([], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_seconds_are_ours_on_a_gpu_beside_others_and_the_floor() -> None:
    [plot] = [plot for plot in plots.PLOTS if plot.name == "seconds"]
    rows = plot.figures(made_up())
    assert [row["seconds"] for row in rows if row["kind"] == "ours"] == [8.0]
    [floor] = [row["seconds"] for row in rows if row["kind"] == "floor"]
    assert floor == pytest.approx(26 * 150 / 750)
    assert len(rows) == 2 + len(plots.PUBLISHED)
    on_cpu = [{**one, "gpu": None} for one in made_up()]
    assert plot.figures(on_cpu) == []


def test_the_committed_plots_show_the_committed_results() -> None:
    results = tables.load(tables.RESULTS)
    wanted = {
        f"{plot.name}.png": plots.fingerprint(rows)
        for plot in plots.PLOTS
        if (rows := plot.figures(results))
    }
    found = {path.name: plots.drawn(path) for path in plots.FOLDER.iterdir()}
    assert found == wanted
