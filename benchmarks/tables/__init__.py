"""Rewrite the tables and plots of ``benchmarks/README.md`` from ``benchmarks/results/``; a test sees that they are current.

    python -m benchmarks.tables

A table stands between ``<!-- table: NAME -->`` and ``<!-- /table -->``, a plot likewise. One whose result does not
exist says so. The plots' pictures are drawn by `benchmarks.plots`, which this calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.plots import FOLDER, PLOTS, draw_all
from benchmarks.tables.card import attention, ceilings, kernels, twins
from benchmarks.tables.cells import NOTHING, Result
from benchmarks.tables.clips import clip
from benchmarks.tables.engine import ablation, correctness, flops, modes
from benchmarks.tables.memory import memory, memoryplan

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "results"

TABLES: dict[str, Callable[[Sequence[Result]], str]] = {
    "clip": clip,
    "correctness": correctness,
    "ceilings": ceilings,
    "attention": attention,
    "kernels": kernels,
    "twins": twins,
    "memory": memory,
    "memoryplan": memoryplan,
    "ablation": ablation,
    "modes": modes,
    "flops": flops,
}


def main() -> None:
    """Draw the plots and write the README anew."""
    results = load(RESULTS)
    draw_all(results, FOLDER)
    text = README.read_text(encoding="utf-8")
    README.write_text(rewritten(text, results), encoding="utf-8")


def load(folder: Path) -> list[Result]:
    """Every result below ``folder``, in the order of their names."""
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.json"))
    ]
    return [result for result in found if isinstance(result, dict)]


def rewritten(text: str, results: Sequence[Result]) -> str:
    """``text`` with every table made from ``results``, and every plot that has any.

    Raises:
        KeyError: a marker names a table or a plot nobody knows.
    """
    plots = {plot.name: plot for plot in PLOTS}

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        chosen = [result for result in results if result.get("benchmark") == name]
        body = TABLES[name](chosen) if chosen else NOTHING
        return f"<!-- table: {name} -->\n\n{body}\n\n<!-- /table -->"

    def picture(match: re.Match[str]) -> str:
        plot = plots[match["name"]]
        body = f"![{plot.alt}](plots/{plot.name}.png)" if plot.figures(results) else NOTHING
        return f"<!-- plot: {plot.name} -->\n\n{body}\n\n<!-- /plot -->"

    for kind, made in (("table", table), ("plot", picture)):
        pattern = rf"<!-- {kind}: (?P<name>[a-z_]+) -->\n.*?<!-- /{kind} -->"
        text = re.sub(pattern, made, text, flags=re.DOTALL)
    return text
