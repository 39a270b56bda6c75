"""Draw the pictures of ``benchmarks/README.md`` from ``benchmarks/results/``.

    python -m benchmarks.plots

Writes ``plots/NAME.png`` for every plot whose results exist, with the fingerprint of the figures drawn in it;
a test compares that with the results. Remove a picture to have it drawn again from the same figures. Needs matplotlib (the ``bench`` extra).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results"
FOLDER = ROOT / "plots"
FINGERPRINT = "Figures"
"""Key of the PNG's text that says what was drawn."""
GIB = 2**30

PAPER, INK, FAINT = "#fbfaf7", "#26282b", "#d9d7d0"
GREY, BLUE, ORANGE, GREEN = "#9a9ea3", "#2f6fb0", "#d9782d", "#4c9a6a"
WIDTH_IN = 8.6
DPI = 150

PUBLISHED = (
    ("TensorRT, H100 PCIe", 22.6),
    ("TensorRT, A100 SXM", 32.2),
    ("OneDiff Enterprise, A100", 20.4),
    ("ComfyUI, A800", 35.5),
    ("diffusers compiled, A100", 43.4),
    ("diffusers, A100", 50.9),
)
"""Seconds for 25 frames at 1024x576 in 25 steps, as their makers or users published them; not ours."""

Result = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Plot:
    """One picture: what it shows, the figures it takes from the results, and how they are drawn."""

    name: str
    alt: str
    figures: Callable[[Sequence[Result]], Rows]
    draw: Callable[[Rows], Figure]


def main() -> None:
    """Draw all from the results there are."""
    from benchmarks.tables import load

    draw_all(load(RESULTS), FOLDER)


def draw_all(results: Sequence[Result], folder: Path) -> None:
    """Draw whatever has results; remove what has none any more. What is up to date stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in PLOTS:
        path, rows = folder / f"{plot.name}.png", plot.figures(results)
        if not rows:
            path.unlink(missing_ok=True)
        elif not path.is_file() or drawn(path) != fingerprint(rows):
            save(plot, rows, path)


def drawn(path: Path) -> str | None:
    """The fingerprint of the figures in a picture."""
    with Image.open(path) as picture:
        found: str | None = picture.info.get(FINGERPRINT)
    return found


def save(plot: Plot, rows: Rows, path: Path) -> None:
    """Draw ``rows`` and write the picture."""
    figure = plot.draw(rows)
    text = {"Software": None, FINGERPRINT: fingerprint(rows)}
    figure.savefig(path, dpi=DPI, facecolor=PAPER, metadata=text)


def fingerprint(rows: Rows) -> str:
    """Of the figures that a plot shows, which stand for it: the same figures may be drawn a pixel apart."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


# What is drawn: rows of plain figures, empty where there are no results.


def work_figures(results: Sequence[Result]) -> Rows:
    """Counted operations of a step and of a decode."""
    return [
        {
            "what": f"{what}, {one['frames']} frames",
            **{e: one[part][e] for e in ("reference", "fused")},
        }
        for one in _of(results, "flops")
        for part, what in (("step", "one step"), ("decode", "decode"))
    ]


def ablation_figures(device: str) -> Callable[[Sequence[Result]], Rows]:
    """Parts against the reference's, and the step with each saving undone."""

    def figures(results: Sequence[Result]) -> Rows:
        found = [one for one in _of(results, "ablation") if one["device"] == device][:1]
        rows: Rows = []
        for one in found:
            where = one["gpu"] or f"{one['processor']}, {one['threads']} thread(s)"
            note = (
                f"{where}, {one['dtype']}, {one['frames']} frames of {one['width']}x{one['height']}"
            )
            parts = [
                ("part", part["name"], part["speedup"]) for part in (one["step"], *one["parts"])
            ]
            savings = [("saving", s["name"], s["times_as_long"]) for s in one.get("savings", ())]
            for kind, name, times in parts + savings:
                rows.append({"kind": kind, "name": name, "note": note, **times})
        return rows

    return figures


def memory_plan_figures(results: Sequence[Result]) -> Rows:
    """Predicted peaks of the plans, by length of the clip."""
    return [
        {"frames": clip["frames"], "plan": plan["plan"], "peak_bytes": plan["peak_bytes"]}
        for one in _of(results, "memoryplan")
        for clip in one["clips"]
        for plan in clip["plans"]
    ]


def label(result: Result) -> str:
    """What made a measured clip: the engine, and what else it went by."""
    parts = [str(result["engine"]), speed_of(result)]
    if result.get("attention") == "measured":
        parts.append("attention by table")
    if result.get("kernels"):
        parts.append("kernels of our own")
    return ", ".join(filter(None, parts))


def speed_of(result: Result) -> str:
    """What is approximate, and the settings that go with it; nothing for the exact speed."""
    speed = str(result.get("speed", "exact"))
    if speed == "exact":
        return ""
    interval, depth = result.get("cache_interval"), result.get("cache_depth")
    cached = f" {interval}, {depth}" if interval is not None else ""
    note = f" ({result['distilled']})" if result.get("distilled") else ""
    return f"{speed}{cached}{note}"


def seconds_figures(results: Sequence[Result]) -> Rows:
    """Clips of 25 frames in 25 steps, ours on a GPU, what others published, and the floor."""
    ours = [
        one
        for one in _of(results, "clip")
        if one["gpu"] and (one["frames"], one["steps"]) == (25, 25)
    ]
    if not ours:
        return []
    rows: Rows = [
        {"who": f"{label(one)}, {one['gpu']}", "seconds": one["gpu_s"], "kind": "ours"}
        for one in ours
    ]
    rows += [{"who": who, "seconds": seconds, "kind": "published"} for who, seconds in PUBLISHED]
    return sorted(rows, key=lambda row: row["seconds"]) + _floors(results)


def _floors(results: Sequence[Result]) -> Rows:
    """Counted work at the rate of the GPU's own largest measured product."""
    rows: Rows = []
    for counted in (one for one in _of(results, "flops") if one["frames"] == 25):
        work = 25 * counted["step"]["fused"] + counted["decode"]["fused"]
        for one in _of(results, "ceilings"):
            rate = one["ceilings"]["product"]["tflop_per_s"].get(one["dtype"])
            if one["gpu"] and rate:
                seconds = work / rate / 1e12
                rows.append({"who": f"floor, {one['gpu']}", "seconds": seconds, "kind": "floor"})
    return rows


def memory_time_figures(results: Sequence[Result]) -> Rows:
    """A step's time against the memory it took, run by run, on a GPU."""
    return [
        {
            "engine": one["engine"],
            "gpu": one["gpu"],
            "plan": run["plan"],
            "peak_bytes": run["measured_peak_bytes"],
            "step_ms": run["step_ms"]["median"],
        }
        for one in _of(results, "memory")
        if one["gpu"]
        for run in one["runs"]
        if run["outcome"] == "ok" and run["measured_peak_bytes"]
    ]


def _of(results: Sequence[Result], benchmark: str) -> list[Result]:
    return [one for one in results if one.get("benchmark") == benchmark]


# How it is drawn.


def draw_work(rows: Rows) -> Figure:
    """Two bars for each part, with the share that is left."""
    figure, axes = _figure(0.62 * len(rows) + 0.9)
    for at, row in enumerate(rows):
        reference, fused = row["reference"] / 1e12, row["fused"] / 1e12
        axes.barh(at - 0.19, reference, 0.34, color=GREY)
        axes.barh(at + 0.19, fused, 0.34, color=BLUE)
        _label(axes, reference, at - 0.19, f"diffusers {reference:.1f}")
        share = f"fused {fused:.1f}, {fused / reference:.1%} of it"
        _label(axes, fused, at + 0.19, share, colour=BLUE)
    _names(axes, [row["what"] for row in rows])
    axes.set_xlim(0, 1.3 * max(row["reference"] for row in rows) / 1e12)
    axes.set_xlabel("TFLOP, counted at 1024x576 with guidance (less is better)")
    return figure


def draw_ablation(rows: Rows) -> Figure:
    """Medians as dots, least to most as lines, 1 as the line that divides gain from loss."""
    kinds = [kind for kind in ("part", "saving") if any(row["kind"] == kind for row in rows)]
    counts = [sum(row["kind"] == kind for row in rows) for kind in kinds]
    figure, all_axes = _figure(0.27 * sum(counts) + 1.15 * len(kinds), counts)
    titles = {
        "part": "Fused against diffusers: times faster",
        "saving": "The fused step with one saving undone: times as long",
    }
    for axes, kind in zip(all_axes, kinds, strict=True):
        chosen = [row for row in rows if row["kind"] == kind]
        for at, row in enumerate(chosen):
            axes.plot([row["min"], row["max"]], [at, at], color=BLUE, linewidth=2, alpha=0.4)
            axes.plot(row["median"], at, "o", color=BLUE, markersize=6)
        axes.axvline(1, color=INK, linewidth=0.8)
        _names(axes, [row["name"] for row in chosen])
        axes.set_title(titles[kind], loc="left", fontsize=10, color=INK, fontweight="bold")
    all_axes[-1].set_xlabel(f"median, least to most · {rows[0]['note']}", fontsize=8)
    return figure


def draw_memory_plan(rows: Rows) -> Figure:
    """A bar for each plan on a doubling axis, one panel for each length of a clip."""
    lengths = sorted({row["frames"] for row in rows}, reverse=True)
    counts = [sum(row["frames"] == frames for row in rows) for frames in lengths]
    figure, all_axes = _figure(0.27 * sum(counts) + 0.95 * len(lengths), counts)
    colours = {"resident": GREEN, "encoders offloaded": BLUE, "one network at a time": ORANGE}
    for axes, frames in zip(all_axes, lengths, strict=True):
        chosen = [row for row in rows if row["frames"] == frames]
        for at, row in enumerate(chosen):
            size, weights = row["peak_bytes"] / GIB, row["plan"].partition(" + ")[0]
            axes.barh(at, size - 0.5, 0.62, left=0.5, color=colours.get(weights, GREY))
            _label(axes, size, at, f"{size:.2f}")
        _names(axes, [row["plan"].replace("host memory", "host") for row in chosen], size=7.5)
        axes.set_xscale("log", base=2)
        axes.set_xlim(0.5, 48)
        axes.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
        title = f"{frames} frames at 1024x576, fp16, with guidance"
        axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    all_axes[-1].set_xlabel("GiB of tensors at the peak, predicted", fontsize=8.5)
    return figure


def draw_seconds(rows: Rows) -> Figure:
    """Ours, others' and the floor, shortest first."""
    figure, axes = _figure(0.36 * len(rows) + 1.0)
    colours = {"ours": BLUE, "published": GREY, "floor": ORANGE}
    for at, row in enumerate(rows):
        axes.barh(at, row["seconds"], 0.62, color=colours[row["kind"]])
        _label(axes, row["seconds"], at, f"{row['seconds']:.1f}")
    names = [f"{row['who']}{' (published)' * (row['kind'] == 'published')}" for row in rows]
    _names(axes, names)
    axes.set_xlim(0, 1.1 * max(row["seconds"] for row in rows))
    axes.set_xlabel("seconds for 25 frames at 1024x576 in 25 steps (less is better)")
    return figure


def draw_memory_time(rows: Rows) -> Figure:
    """One point for each run, one colour for each engine."""
    figure, axes = _figure(4.2)
    for engine, colour in zip(
        sorted({row["engine"] for row in rows}), (BLUE, GREY, ORANGE, GREEN), strict=False
    ):
        chosen = sorted(
            (row for row in rows if row["engine"] == engine), key=lambda row: row["peak_bytes"]
        )
        sizes = [row["peak_bytes"] / GIB for row in chosen]
        axes.plot(sizes, [row["step_ms"] for row in chosen], "o-", color=colour, label=engine)
    axes.set_xlabel(f"GiB of tensors at the peak, measured ({rows[0]['gpu']})")
    axes.set_ylabel("ms a step")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.legend(frameon=False)
    return figure


def _figure(height_in: float, panels: Sequence[int] = ()) -> tuple[Figure, Any]:
    """A figure of README width; its axes, or one for each of ``panels``, as high as their counts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    ratios = {"height_ratios": list(panels)} if panels else None
    made = figure.subplots(max(len(panels), 1), 1, squeeze=False, gridspec_kw=ratios)[:, 0]
    for axes in made:
        axes.set_facecolor(PAPER)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(colors=INK, labelsize=8.5, length=0)
        axes.grid(axis="x", color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, made if panels else made[0]


def _label(axes: Axes, x: float, y: float, text: str, colour: str = INK) -> None:
    """A number beside a bar's end, on a ground of its own so that no line runs through it."""
    axes.annotate(
        text,
        (x, y),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        fontsize=8.5,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8},
    )


def _names(axes: Axes, names: Sequence[str], size: float = 8.5) -> None:
    """Rows from the top, with their names."""
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_ylim(len(names) - 0.4, -0.6)


PLOTS = (
    Plot("work", "Counted work of diffusers and of the fused engine", work_figures, draw_work),
    Plot(
        "ablation_cpu",
        "What each part and each saving gains on the CPU",
        ablation_figures("cpu"),
        draw_ablation,
    ),
    Plot(
        "ablation_cuda",
        "What each part and each saving gains on a GPU",
        ablation_figures("cuda"),
        draw_ablation,
    ),
    Plot(
        "memory_plan", "Predicted peak of each memory plan", memory_plan_figures, draw_memory_plan
    ),
    Plot("seconds", "Seconds a clip, beside what others published", seconds_figures, draw_seconds),
    Plot(
        "memory_time",
        "A step's time against the memory it takes",
        memory_time_figures,
        draw_memory_time,
    ),
)


if __name__ == "__main__":
    main()
