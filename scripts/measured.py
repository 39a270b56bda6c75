"""Rewrite the README's figures from ``benchmarks/results/``; a test sees that they are current.

python scripts/measured.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->\n"

Row = tuple[str, str]


def startup(result: dict[str, Any]) -> Row:
    seconds = result["seconds"]
    figures = (
        f"{seconds['help']['median']:.2f} s, an empty Python {seconds['empty']['median']:.2f} s"
    )
    return "`svd-local --help`, start to end", figures


def overhead(result: dict[str, Any]) -> Row:
    added = result["overhead_s"]
    what = (
        f"what is added around the pipeline call and the bare encode "
        f"(tiny checkpoint on the CPU, {result['steps']} steps, median of {added['n']})"
    )
    return what, f"{added['median']:.2f} s a clip ({added['min']:.2f} to {added['max']:.2f})"


def remote(result: dict[str, Any]) -> Row:
    what = (
        "what a remote tier adds to the bare exchange with a loopback server, opening, scaling and "
        f"encoding apart (median of {result['runs']})"
    )
    figures = "; ".join(
        f"{name} {1000 * one['added_s']['median']:.0f} ms a clip"
        for name, one in result["services"].items()
    )
    return what, figures


def image_sequence(result: dict[str, Any]) -> Row:
    what = (
        "a 4 s zoom at 1080p and 24 fps, from a picture to the MP4, against MoviePy "
        f"{result['versions']['moviepy']} at the same x264 setting ({result['x264']['preset']})"
    )
    figures = "; ".join(
        f"from {size}: {one['ours']['median_s']:.1f} s against {one['moviepy']['median_s']:.1f} s "
        f"({one['times_faster']:.1f} x), the whole command within "
        f"{one['whole_path']['peak_rss_bytes'] / 1e6:.0f} MB"
        for size, one in result["pictures"].items()
    )
    return what, figures


def flops(result: dict[str, Any]) -> Row:
    step, decode = result["step"], result["decode"]
    what = f"work of the fused engine against diffusers, counted, {result['frames']} frames at full size"
    figures = (
        f"{step['fused'] / 1e12:.1f} of {step['reference'] / 1e12:.1f} TFLOP a step, "
        f"{decode['fused'] / 1e12:.1f} of {decode['reference'] / 1e12:.1f} TFLOP a decode"
    )
    return what, figures


def memory_plan(result: dict[str, Any]) -> Row:
    what = "GPU memory that the smallest exact plan needs at full size in fp16, **predicted**, the context's share included"
    figures = "; ".join(
        f"{clip['frames']} frames {clip['plans'][-1]['least_budget_bytes'] / 2**30:.2f} GiB"
        for clip in result["clips"]
    )
    return what, figures


def manifest(result: dict[str, Any]) -> Row:
    kinds = {
        "csv": "CSV",
        "jsonl": "JSON Lines",
        "csv-pictures": "CSV with a picture a row",
        "csv-missing": "the same without the pictures, every row bad",
    }
    figures = "; ".join(
        f"{kinds[kind]} {one['seconds']:.0f} s, {one['cpu_seconds']:.0f} s of them computing, "
        f"within {one['peak_bytes'] / 1e6:.0f} MB"
        for kind, one in result["manifests"].items()
    )
    return (
        f"`svd-local batch --dry-run` of {result['rows']:,} rows, start to end, other work on the machine",
        figures,
    )


def batch_queue(result: dict[str, Any]) -> Row:
    queue, whole, added = result["unencoded"], result["whole_clips"], result["added"]
    what = (
        f"jobs of a batch claimed, published with a small file for a video, and finished by {result['workers']} "
        "processes on SQLite; whole clips of the fake tier by as many; what a batch adds to a clip's own time"
    )
    figures = (
        f"{queue['jobs_per_s']:.0f} a second ({queue['jobs']:,} jobs, {queue['claimed_twice']} claimed twice); "
        f"{whole['clips_per_s']:.1f} a second; {added['added_s']:.3f} s"
    )
    return what, figures


_DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def batch_kills(result: dict[str, Any]) -> Row:
    what = (
        f"batches on {_DATABASES[result.get('database', 'sqlite')]} killed at a random moment and run "
        f"again, {result['within_publication']} of {result['kills']} within a publication"
    )
    figures = (
        f"{len(result['wrong'])} with anything lost, made twice or left over; "
        f"{result['adopted']} clips adopted"
    )
    return what, figures


TABLE: dict[str, Callable[[dict[str, Any]], Row]] = {
    "startup.json": startup,
    "overhead.json": overhead,
    "remote.json": remote,
    "image_sequence.json": image_sequence,
    "flops.json": flops,
    "memory_plan.json": memory_plan,
    "manifest.json": manifest,
    "batch_queue.json": batch_queue,
    "batch_kills.json": batch_kills,
    "batch_kills_postgresql.json": batch_kills,
}


def section() -> str:
    """The table of all results there are, each row with the file it comes from."""
    lines = ["| what | measured | from |", "|---|---|---|"]
    for name, row in TABLE.items():
        if not (RESULTS / name).is_file():
            continue
        what, figures = row(json.loads((RESULTS / name).read_text(encoding="utf-8")))
        lines.append(f"| {what} | {figures} | [{name}](benchmarks/results/{name}) |")
    return "\n".join(lines) + "\n"


def rewritten(text: str) -> str:
    """The README with its figures replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{section()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
