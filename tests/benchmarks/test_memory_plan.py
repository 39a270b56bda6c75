"""The predicted plans are the ladder's, and what they bring to the GPU is what streaming moves."""

from __future__ import annotations

import json

from benchmarks import memory_plan, tables


def test_the_committed_predictions_are_the_engines() -> None:
    committed = json.loads((tables.RESULTS / "memory_plan.json").read_text(encoding="utf-8"))
    assert memory_plan.predict([14, 25]) == committed


def test_plans_get_smaller_and_streamed_weights_are_counted() -> None:
    plans = memory_plan.predict([25])["clips"][0]["plans"]
    peaks = [plan["peak_bytes"] for plan in plans]
    assert peaks == sorted(peaks, reverse=True)
    assert plans[0]["plan"] == "resident"
    brought = {plan["plan"]: plan["weights_a_step_bytes"] for plan in plans}
    assert {size > 0 for plan, size in brought.items() if not plan.startswith("weights")} == {False}
    streamed = {plan: size for plan, size in brought.items() if plan.startswith("weights streamed")}
    [both] = [size for plan, size in streamed.items() if "both halves" in plan]
    assert both > 2 * 2**30
    assert {size for plan, size in streamed.items() if "both halves" not in plan} == {2 * both}
