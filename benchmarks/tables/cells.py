"""What the tables are made of: a grid, and how a device, a plan or a size is written in a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.plots import label

NOTHING = "*Not measured yet.*"
GIB = 2**30

Result = dict[str, Any]


def grid(head: str, rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; ``head`` is its first line without the outer bars."""
    lines = [f"| {head} |", "|---" * len(head.split("|")) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def by_device(
    results: Sequence[Result],
    on_gpu: Callable[[Sequence[Result]], str],
    on_cpu: Callable[[Sequence[Result]], str],
) -> str:
    """A table of GPUs' results, or that there are none, and one of CPUs' where there are any."""
    there = [result for result in results if result["gpu"]]
    others = [result for result in results if not result["gpu"]]
    parts = [on_gpu(there)] if there else [f"On a GPU: {NOTHING}"]
    return "\n\n".join([*parts, *([on_cpu(others)] if others else [])])


def rehearsed(results: Sequence[Result]) -> str:
    """What a CPU's results are, and are not."""
    one = results[0]
    return (
        f"In small, {one['frames']} frames of {one['width']}x{one['height']}: {where(one)}, "
        f"{one['machine']['threads']} thread(s), on a machine that had other work. Only the ratios and the bytes "
        "mean anything, and the ratios not much"
    )


def where(result: Result) -> str:
    """The device, the checkpoint's kind and what else decides speed."""
    device = result["gpu"] or f"CPU ({result['machine']['processor']})"
    name = result["checkpoint"]
    weights = name
    if result["synthetic"]:
        weights = "random weights" if name.startswith("synthetic:") else f"{name}, random weights"
    return f"{device}, {result['dtype']}, {weights}, torch {result['versions']['torch']}"


def schedule(result: Result) -> str:
    return "" if result["schedule"] in ("karras", "consistency") else f" ({result['schedule']})"


def spread(values: dict[str, float], digits: int) -> str:
    low, middle, high = (f"{values[key]:.{digits}f}" for key in ("min", "median", "max"))
    return f"{middle} ({low} to {high})"


def gib(size: int | None) -> str:
    return "" if size is None else f"{size / GIB:.2f}"


def mib(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f}"


def milliseconds(found: float | str | None) -> str:
    return f"{found:.3f}" if isinstance(found, float) else "refused" if found else ""


def engine_of(result: Result) -> str:
    return f"{label(result)}, from disk" if was_read(result) else label(result)


def was_read(result: Result) -> bool:
    return bool(result["checkpoint"].startswith("synthetic:") and result.get("from_disk"))


def budget_of(result: Result) -> str:
    budget = result.get("budget_bytes")
    return "" if budget is None else f", within {gib(budget)} GiB: {result['plan']}"
