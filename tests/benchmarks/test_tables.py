"""The page's tables are made from the results, and it never shows a number that has none."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables
from benchmarks.plots import PLOTS


def test_the_page_is_what_its_results_make_of_it() -> None:
    text = tables.README.read_text(encoding="utf-8")
    assert tables.rewritten(text, tables.load(tables.RESULTS)) == text


def test_it_says_plainly_whether_a_gpu_was_measured() -> None:
    measured = any(result.get("gpu") for result in tables.load(tables.RESULTS))
    denied = "On a GPU nothing is measured yet" in tables.README.read_text(encoding="utf-8")
    assert measured is not denied


def test_every_table_is_on_the_page_and_every_command_exists() -> None:
    text = tables.README.read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- table: ([a-z]+) -->", text)) == set(tables.TABLES)
    assert set(re.findall(r"<!-- plot: ([a-z_]+) -->", text)) == {plot.name for plot in PLOTS}
    modules = set(re.findall(r"python -m benchmarks\.([a-z_]+)", text))
    assert [name for name in modules if find_spec(f"benchmarks.{name}") is None] == []


def test_without_results_a_table_says_so() -> None:
    text = "a\n<!-- table: clip -->\n| 1 |\n<!-- /table -->\nb\n"
    bare = f"a\n<!-- table: clip -->\n\n{tables.NOTHING}\n\n<!-- /table -->\nb\n"
    assert tables.rewritten(text, []) == bare
    assert tables.rewritten(bare, [{"benchmark": "memory"}]) == bare


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        tables.rewritten("<!-- table: magic -->\n<!-- /table -->", [{"benchmark": "magic"}])


def _measured(benchmark: str, **more: Any) -> dict[str, Any]:
    return {
        "benchmark": benchmark,
        "gpu": "Card 9000",
        "machine": {"processor": "P"},
        "versions": {"torch": "2.11"},
        "checkpoint": "synthetic:svd-xt",
        "from_disk": False,
        "synthetic": True,
        "dtype": "float16",
        "frames": 25,
        "engine": "fused",
        "steps": 25,
        **more,
    }


def _spread(median: float) -> dict[str, float]:
    return {"median": median, "min": median - 1, "max": median + 1, "n": 3}


def _rows(result: dict[str, Any]) -> list[list[str]]:
    name = result["benchmark"]
    text = tables.rewritten(f"<!-- table: {name} -->\n<!-- /table -->", [result])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_clip_is_a_row_that_says_on_what_it_was_measured() -> None:
    head, _, row = _rows(
        _measured(
            "clip",
            schedule="karras",
            seconds_per_clip=_spread(8.21),
            gpu_s=7.9,
            step_ms=_spread(280.44),
            phases={"decode": _spread(0.7)},
            peak_bytes=20 * 2**30,
        )
    )
    assert row == [
        "25", "fused", "25", "8.21 (7.21 to 9.21)", "7.90", "280.4 (279.4 to 281.4)", "0.70",
        "20.00", "", "Card 9000, float16, random weights, torch 2.11",
    ]  # fmt: skip
    assert len(head) == len(row)


@pytest.mark.parametrize(
    ("failure", "told"), [(None, "21.4 s, 34 parts"), ("TritonMissing: no compiler", "failed")]
)
def test_a_clip_says_what_it_went_by(failure: str | None, told: str) -> None:
    _, _, row = _rows(
        _measured(
            "clip",
            engine="fused-compiled",
            schedule="karras",
            speed="fp8+cached",
            cache_interval=3,
            cache_depth=1,
            attention="measured",
            compile={"graphs": 34, "seconds": 21.42, "failure": failure},
            seconds_per_clip=_spread(8.21),
            gpu_s=7.9,
            step_ms=_spread(280.44),
            phases={"decode": _spread(0.7)},
            peak_bytes=20 * 2**30,
        )
    )
    assert (row[1], row[8]) == ("fused-compiled, fp8+cached 3, 1, attention by table", told)


def test_attention_shows_every_backend_and_the_one_that_is_taken() -> None:
    shape = {"batch": 50, "heads": 5, "tokens": 9216, "size": 64, "backend": "cudnn"}
    ms = {"torch": 1.5, "flash": 1.5, "cudnn": 1.0, "math": "too large", "preferred": 1.0}
    head, _, row = _rows(_measured("attention", rows=[{**shape, "ms": ms}]))
    assert head == ["shape", "torch ms", "flash ms", "cudnn ms", "math ms", "taken"]
    assert row == ["(50, 5, 9216, 64)", "1.500", "1.500", "1.000", "refused", "cudnn"]


def _on_cpu(**more: Any) -> dict[str, Any]:
    result = _measured("clip", **more)
    return result | {
        "gpu": None,
        "machine": {"processor": "P", "threads": 1},
        "checkpoint": "tiny-svd",
        "width": 128,
        "height": 64,
        "schedule": "karras",
    }


def test_clips_on_a_cpu_are_ratios_to_the_reference_and_say_what_they_are() -> None:
    common = {"peak_bytes": 2**26, "predicted_peak_bytes": 2**26, "plan": "resident", "steps": 4}
    plain = {**common, "speed": "exact", "budget_bytes": None}
    cached = {**common, "speed": "cached", "cache_interval": 3, "cache_depth": 1}
    text = tables.clip(
        [
            _on_cpu(**plain, engine="reference", processor_s=_spread(4.0)),
            _on_cpu(**cached, budget_bytes=2**27, processor_s=_spread(3.0)),
        ]
    )
    assert text.startswith(f"On a GPU: {tables.NOTHING}")
    assert "CPU (P), float16, tiny-svd, random weights" in text
    assert "Only the ratios and the bytes mean anything" in text
    assert "| reference | exact | 4 |  | resident | 1.00 (0.75 to 1.25) | 64 | 64 |" in text
    assert "| fused | cached 3, 1 | 4 | 128 | resident | 0.75 (0.50 to 1.00) | 64 | 64 |" in text


def test_memory_on_a_cpu_is_a_table_of_its_own() -> None:
    run = {
        "outcome": "ok", "plan": "resident", "predicted_peak_bytes": 2**26, "measured_peak_bytes": 2**26,
        "step_ms": _spread(3),
    }  # fmt: skip
    runs = [
        {**run, "cap_gib": None, "seconds": 2.0},
        {**run, "cap_gib": 0.125, "seconds": 3.0, "measured_peak_bytes": None},
        {"cap_gib": 0.0625, "outcome": "invalid-request"},
    ]
    text = tables.memory([_on_cpu(runs=runs), _measured("memory", runs=[])])
    assert "On a GPU" not in text
    assert "| fused | none | resident | 64 | 64 | 1.00 |  |" in text
    assert "| fused | 128 | resident | 64 | not counted | 1.50 |  |" in text
    assert "| fused | 64 | invalid-request |" in text


def test_memory_shows_what_did_not_fit() -> None:
    good = {
        "cap_gib": 8.0,
        "outcome": "ok",
        "plan": "streamed",
        "predicted_peak_bytes": 2**32,
        "measured_peak_bytes": 2**32,
        "seconds": 9.0,
        "step_ms": _spread(300),
        "against_uncapped": {"share_within_1": 0.99995},
    }
    bad = {"cap_gib": 4.0, "outcome": "out-of-memory"}
    head, _, fitted, refused = _rows(_measured("memory", runs=[good, bad]))
    assert fitted[1:5] == ["8", "streamed", "4.00", "4.00"]
    assert fitted[-2] == "99.9950%"
    assert refused[1:3] == ["4", "out-of-memory"]
    assert len(head) == len(fitted) == len(refused)


def test_correctness_shows_a_failure() -> None:
    part = {"fused_error": 2e-3, "reference_error": 1e-3, "ratio": 2.0}
    clip = {"fused_and_reference": {"share_within_1": 0.9995}}
    result = _measured("correctness", step=part, decode=part, clip=clip, passed=False)
    row = _rows(result)[2]
    assert row[2] == "2.00e-03 : 1.00e-03 = 2.000"
    assert row[-2] == "**no**"


def test_kernels_and_ceilings_keep_their_columns() -> None:
    kernel = {
        "name": "a|b" * 50,
        "calls": 3,
        "ms": 1.0,
        "share": 0.5,
        "bytes": None,
        "gb_per_s": None,
    }
    rows = _rows(
        _measured("kernels", step_ms=_spread(9), sum_ms=8.0, listed="kernels", heaviest=[kernel])
    )
    assert {len(row) for row in rows} == {6}
    attention = {"kind": "attention", "batch": 1, "heads": 2, "tokens": 3, "size": 4}
    result = _measured(
        "ceilings",
        ceilings={
            "copy": {"gb_per_s": {"device": 4300.0}},
            "product": {"side": 8192, "tflop_per_s": {"float16": 790.0, "float8_e4m3fn": None}},
        },
        library_ms={"step": 200.0},
        operations=[{**attention, "backends_ms": {"flash": 0.5, "math": "No kernel"}}],
    )
    text = tables.ceilings([result])
    assert "| copy, device | 4300 GB/s |" in text
    assert "| product of 8192, float8_e4m3fn | refused |" in text
    assert "| (1, 2, 3, 4) | 0.500 | refused |" in text


def test_ablation_shows_parts_and_savings() -> None:
    part = {"name": "step", "reference_s": 2.0, "fused_s": 1.0, "speedup": _spread(2.0)}
    saving = {"name": "tables", "times_as_long": _spread(1.1), "full_size_flop": 6_000_000_000_000}
    result = _measured(
        "ablation", gpu=None, processor="P", threads=1, width=64, height=32, shared=True, step=part, parts=[],
        savings=[saving],
    )  # fmt: skip
    text = tables.ablation([result])
    assert "look at the ratios" in text
    assert "| step | 2000.0 | 1000.0 | 2.00 (1.00 to 3.00) |" in text
    assert "| tables | 1.100 (0.100 to 2.100) | 6.00 |" in text


def test_the_memory_plan_is_its_predictions() -> None:
    plan = {
        "plan": "weights streamed",
        "peak_bytes": 2**30,
        "least_budget_bytes": 3 * 2**29,
        "weights_a_step_bytes": 0,
    }
    result = {"benchmark": "memoryplan", "clips": [{"frames": 14, "plans": [plan]}]}
    head, _, row = _rows(result)
    assert row == ["14", "weights streamed", "1.00", "1.50", ""]
    assert "predicted" in head[2]


def test_results_of_other_kinds_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one.json").write_text('{"benchmark": "flops"}')
    assert tables.load(tmp_path) == [{"benchmark": "flops"}]
