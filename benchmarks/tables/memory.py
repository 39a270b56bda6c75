"""The tables of memory: plans as they ran, and as they are predicted."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables.cells import Result, by_device, engine_of, gib, grid, mib, rehearsed, where


def memory(results: Sequence[Result]) -> str:
    """A clip under ever smaller caps."""
    return by_device(results, _memory_on_gpu, _memory_on_cpu)


def _memory_on_cpu(results: Sequence[Result]) -> str:
    """Budgets of the plan alone; ratios only."""
    rows = []
    for result in results:
        first = result["runs"][0]
        for run in result["runs"]:
            cap = "none" if run["cap_gib"] is None else f"{run['cap_gib'] * 1024:.0f}"
            if run["outcome"] != "ok":
                rows.append((result["engine"], cap, run["outcome"], *[""] * 4))
                continue
            same = run.get("against_uncapped")
            rows.append(
                (
                    result["engine"],
                    cap,
                    run["plan"],
                    mib(run["predicted_peak_bytes"]),
                    mib(run["measured_peak_bytes"]) or "not counted",
                    f"{run['seconds'] / first['seconds']:.2f}",
                    f"{same['share_within_1']:.4%}" if same else "",
                )
            )
    head = "engine | budget MiB | plan | predicted MiB | counted MiB | times as long as without | within one level"
    told = f"{rehearsed(results)}. {results[0]['steps']} steps; the counting slows each clip"
    return f"{told}:\n\n{grid(head, rows)}"


def _memory_on_gpu(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        for run in result["runs"]:
            cap = "none" if run["cap_gib"] is None else f"{run['cap_gib']:g}"
            if run["outcome"] != "ok":
                rows.append((engine_of(result), cap, run["outcome"], *[""] * 6, where(result)))
                continue
            same = run.get("against_uncapped")
            rows.append(
                (
                    engine_of(result),
                    cap,
                    run["plan"],
                    gib(run["predicted_peak_bytes"]),
                    gib(run["measured_peak_bytes"]),
                    gib(run.get("used_bytes")),
                    f"{run['seconds']:.2f} ({result['steps']} steps)",
                    f"{run['step_ms']['median']:.1f}",
                    f"{same['share_within_1']:.4%}" if same else "",
                    where(result),
                )
            )
    head = "engine | cap GiB | plan | predicted GiB | measured GiB | of the card GiB | seconds | ms a step | within one level | on"
    return grid(head, rows)


def memoryplan(results: Sequence[Result]) -> str:
    """Predicted peaks of the plans."""
    rows = [
        (
            clip["frames"],
            plan["plan"],
            gib(plan["peak_bytes"]),
            gib(plan["least_budget_bytes"]),
            gib(plan["weights_a_step_bytes"] or None),
        )
        for result in results
        for clip in result["clips"]
        for plan in clip["plans"]
    ]
    head = "frames | plan | tensors GiB, predicted | least budget GiB | weights brought a step GiB"
    return grid(head, rows)
