"""Rewrite the tables and plots of ``benchmarks/README.md`` from ``benchmarks/results/``; a test sees that they are current.

    python -m benchmarks.tables

A table stands between ``<!-- table: NAME -->`` and ``<!-- /table -->``, a plot likewise. One whose result does not
exist says so. The plots' pictures are drawn by `benchmarks.plots`, which this calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.plots import FOLDER, PLOTS, draw_all, label, speed_of

ROOT = Path(__file__).resolve().parent
README = ROOT / "README.md"
RESULTS = ROOT / "results"
NOTHING = "*Not measured yet.*"
GIB = 2**30

Result = dict[str, Any]


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


def clip(results: Sequence[Result]) -> str:
    """Seconds and gigabytes of whole clips on GPUs; on a CPU how they compare."""
    return _by_device(results, _clip_on_gpu, _clip_on_cpu)


def _clip_on_gpu(results: Sequence[Result]) -> str:
    head = (
        "frames | engine | steps | seconds a clip | of it the engine | ms a step | decode | peak GiB "
        "| compiling before the first | on"
    )
    ordered = sorted(results, key=lambda r: (-r["frames"], r["gpu_s"]))
    return grid(
        head,
        (
            (
                result["frames"],
                f"{_engine(result)}{_budget(result)}",
                f"{result['steps']}{_schedule(result)}",
                _spread(result["seconds_per_clip"], 2),
                f"{result['gpu_s']:.2f}",
                _spread(result["step_ms"], 1),
                f"{result['phases']['decode']['median']:.2f}",
                _gib(result["peak_bytes"]),
                _compiling(result.get("compile")),
                _where(result),
            )
            for result in ordered
        ),
    )


def attention(results: Sequence[Result]) -> str:
    """Every backend's milliseconds for each of the engine's shapes."""
    parts = []
    for result in results:
        names = list(dict.fromkeys(name for row in result["rows"] for name in row["ms"]))
        names = [name for name in names if name != "preferred"]
        rows = [
            (
                f"({row['batch']}, {row['heads']}, {row['tokens']}, {row['size']})",
                *(_milliseconds(row["ms"].get(name)) for name in names),
                row["backend"],
            )
            for row in result["rows"]
        ]
        head = " | ".join(("shape", *(f"{name} ms" for name in names), "taken"))
        parts.append(f"{_where(result)}:\n\n{grid(head, rows)}")
    return "\n\n".join(parts)


def _clip_on_cpu(results: Sequence[Result]) -> str:
    """Ratios only: the processor had other work."""
    references = {
        (result["frames"], result["steps"]): result["processor_s"]["median"]
        for result in results
        if (result["engine"], result["speed"], result["budget_bytes"])
        == ("reference", "exact", None)
    }
    rows = []
    for result in sorted(results, key=lambda r: (r["steps"], r["engine"], r["speed"])):
        base = references.get((result["frames"], result["steps"]))
        least, middle, most = (result["processor_s"][key] for key in ("min", "median", "max"))
        rows.append(
            (
                result["engine"],
                f"{speed_of(result) or 'exact'}{_schedule(result)}",
                result["steps"],
                _mib(result["budget_bytes"]),
                result["plan"],
                f"{middle / base:.2f} ({least / base:.2f} to {most / base:.2f})" if base else "",
                _mib(result["predicted_peak_bytes"]),
                _mib(result["peak_bytes"]) or "not counted",
            )
        )
    head = (
        "engine | speed | steps | budget MiB | plan | times the exact reference's processor time in as many "
        "steps | tensors MiB, predicted | counted"
    )
    return f"{_rehearsed(results)}:\n\n{grid(head, rows)}"


def correctness(results: Sequence[Result]) -> str:
    """How far each engine is from the reference in higher precision."""
    rows = []
    for result in results:
        share = result["clip"]["fused_and_reference"]["share_within_1"]
        rows.append(
            (
                result["frames"],
                result["dtype"],
                _errors(result["step"]),
                _errors(result["decode"]),
                f"{share:.4%} ({result['steps']} steps)",
                "yes" if result["passed"] else "**no**",
                _where(result),
            )
        )
    head = "frames | type | step, fused : reference | decode, fused : reference | pixel values within one level | passed | on"
    return grid(head, rows)


def ceilings(results: Sequence[Result]) -> str:
    """The device's own limits, and attention by backend."""
    parts = []
    for result in results:
        found = result["ceilings"]
        limits = [
            (f"copy, {name}", f"{v:.0f} GB/s") for name, v in found["copy"]["gb_per_s"].items()
        ]
        limits += [
            (
                f"product of {found['product']['side']}, {name}",
                f"{v:.0f} TFLOP/s" if v else "refused",
            )
            for name, v in found["product"]["tflop_per_s"].items()
        ]
        limits += [
            (f"the library's kernels of a {part}, {result['frames']} frames", f"{ms:.1f} ms")
            for part, ms in result["library_ms"].items()
        ]
        parts.append(f"{_where(result)}:\n\n{grid('what | at most', limits)}")
        attention = [one for one in result["operations"] if one["kind"] == "attention"]
        names = sorted({name for one in attention for name in one["backends_ms"]})
        rows = [
            (
                "({batch}, {heads}, {tokens}, {size})".format(**one),
                *(_milliseconds(one["backends_ms"].get(name)) for name in names),
            )
            for one in attention
        ]
        parts.append(grid("attention, ms | " + " | ".join(names), rows))
    return "\n\n".join(parts)


def kernels(results: Sequence[Result]) -> str:
    """The heaviest kernels of a step."""
    parts = []
    for result in results:
        title = f"{_engine(result)}, {result['frames']} frames, {_where(result)}: "
        title += f"{result['step_ms']['median']:.1f} ms a step, {result['listed']} {result['sum_ms']:.1f} ms"
        rows = [
            (
                f"`{row['name'][:90].replace('|', ' ')}`",
                row["calls"],
                f"{row['ms']:.2f}",
                f"{row['share']:.1%}",
                f"{row['bytes'] / 1e9:.2f}" if row["bytes"] else "",
                f"{row['gb_per_s']:.0f}" if row["gb_per_s"] else "",
            )
            for row in result["heaviest"]
        ]
        table = grid("kernel | calls | ms | share | GB | GB/s", rows)
        parts.append(f"<details><summary>{title}</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(parts)


def twins(results: Sequence[Result]) -> str:
    """Our kernels against plain torch, by width."""
    rows = [
        (
            f"{kernel}, {width} channels",
            f"{one['twin_ms']:.2f}",
            "" if one["kernel_ms"] is None else f"{one['kernel_ms']:.2f}",
            f"{one['twin_ms'] / one['kernel_ms']:.2f}" if one["kernel_ms"] else "",
            "yes" if one["wins"] else "no",
            f"{result['frames']} frames, {_where(result)}",
        )
        for result in results
        for kernel, widths in result["widths"].items()
        for width, one in widths.items()
    ]
    return grid("kernel | torch, ms a step | kernel, ms a step | times faster | wins | on", rows)


def memory(results: Sequence[Result]) -> str:
    """A clip under ever smaller caps."""
    return _by_device(results, _memory_on_gpu, _memory_on_cpu)


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
                    _mib(run["predicted_peak_bytes"]),
                    _mib(run["measured_peak_bytes"]) or "not counted",
                    f"{run['seconds'] / first['seconds']:.2f}",
                    f"{same['share_within_1']:.4%}" if same else "",
                )
            )
    head = "engine | budget MiB | plan | predicted MiB | counted MiB | times as long as without | within one level"
    told = f"{_rehearsed(results)}. {results[0]['steps']} steps; the counting slows each clip"
    return f"{told}:\n\n{grid(head, rows)}"


def _memory_on_gpu(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        for run in result["runs"]:
            cap = "none" if run["cap_gib"] is None else f"{run['cap_gib']:g}"
            if run["outcome"] != "ok":
                rows.append((_engine(result), cap, run["outcome"], *[""] * 6, _where(result)))
                continue
            same = run.get("against_uncapped")
            rows.append(
                (
                    _engine(result),
                    cap,
                    run["plan"],
                    _gib(run["predicted_peak_bytes"]),
                    _gib(run["measured_peak_bytes"]),
                    _gib(run.get("used_bytes")),
                    f"{run['seconds']:.2f} ({result['steps']} steps)",
                    f"{run['step_ms']['median']:.1f}",
                    f"{same['share_within_1']:.4%}" if same else "",
                    _where(result),
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
            _gib(plan["peak_bytes"]),
            _gib(plan["least_budget_bytes"]),
            _gib(plan["weights_a_step_bytes"] or None),
        )
        for result in results
        for clip in result["clips"]
        for plan in clip["plans"]
    ]
    head = "frames | plan | tensors GiB, predicted | least budget GiB | weights brought a step GiB"
    return grid(head, rows)


def ablation(results: Sequence[Result]) -> str:
    """How many times faster each part of a step is, and what each saving is worth."""
    parts = []
    for result in results:
        where = result["gpu"] or f"{result['processor']}, {result['threads']} thread(s)"
        title = f"{where}, {result['dtype']}, {result['frames']} frames of {result['width']}x{result['height']}"
        rows = [
            (
                part["name"],
                f"{part['reference_s'] * 1e3:.1f}",
                f"{part['fused_s'] * 1e3:.1f}",
                "{median:.2f} ({min:.2f} to {max:.2f})".format(**part["speedup"]),
            )
            for part in (result["step"], *result["parts"])
        ]
        title += (
            ", on a machine that had other work: look at the ratios" if result.get("shared") else ""
        )
        parts.append(f"{title}:\n\n{grid('part | reference ms | fused ms | times faster', rows)}")
        spared = [
            (
                saving["name"],
                "{median:.3f} ({min:.3f} to {max:.3f})".format(**saving["times_as_long"]),
                f"{saving['full_size_flop'] / 1e12:.2f}",
            )
            for saving in result.get("savings", ())
        ]
        if not spared:
            continue
        head = "saving, undone alone | the step takes times as long | TFLOP it spares a step of 25 frames at full size"
        parts.append(grid(head, spared))
    return "\n\n".join(parts)


def modes(results: Sequence[Result]) -> str:
    """The speeds that approximate."""
    parts = []
    for result in results:
        rows = [
            (
                f"{mode['name']} ({mode['note']})" if mode["note"] else mode["name"],
                mode["steps"],
                _spread(mode["seconds"], 2),
                _spread(mode["times_faster"], 2),
                *_distances(mode["from_exact"]),
            )
            for mode in result["modes"]
        ]
        head = (
            "mode | steps | seconds | times faster | latents, relative L2 | grey levels | PSNR dB"
        )
        title = (
            f"{result['frames']} frames of {result['width']}x{result['height']}, {_where(result)}"
        )
        parts.append(f"{title}; {result['note']}:\n\n{grid(head, rows)}")
    return "\n\n".join(parts)


def flops(results: Sequence[Result]) -> str:
    """Counted work."""
    rows = [
        (
            result["frames"],
            part,
            f"{result[part]['reference'] / 1e12:.1f}",
            f"{result[part]['fused'] / 1e12:.1f}",
            f"{result[part]['ratio']:.4f}",
        )
        for result in results
        for part in ("step", "decode")
    ]
    return grid("frames | part | reference TFLOP | fused TFLOP | ratio", rows)


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


def grid(head: str, rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; ``head`` is its first line without the outer bars."""
    lines = [f"| {head} |", "|---" * len(head.split("|")) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def _by_device(
    results: Sequence[Result],
    on_gpu: Callable[[Sequence[Result]], str],
    on_cpu: Callable[[Sequence[Result]], str],
) -> str:
    """A table of GPUs' results, or that there are none, and one of CPUs' where there are any."""
    there = [result for result in results if result["gpu"]]
    others = [result for result in results if not result["gpu"]]
    parts = [on_gpu(there)] if there else [f"On a GPU: {NOTHING}"]
    return "\n\n".join([*parts, *([on_cpu(others)] if others else [])])


def _rehearsed(results: Sequence[Result]) -> str:
    """What a CPU's results are, and are not."""
    one = results[0]
    return (
        f"In small, {one['frames']} frames of {one['width']}x{one['height']}: {_where(one)}, "
        f"{one['machine']['threads']} thread(s), on a machine that had other work. Only the ratios and the bytes "
        "mean anything, and the ratios not much"
    )


def _where(result: Result) -> str:
    """The device, the checkpoint's kind and what else decides speed."""
    device = result["gpu"] or f"CPU ({result['machine']['processor']})"
    name = result["checkpoint"]
    weights = name
    if result["synthetic"]:
        weights = "random weights" if name.startswith("synthetic:") else f"{name}, random weights"
    return f"{device}, {result['dtype']}, {weights}, torch {result['versions']['torch']}"


def _engine(result: Result) -> str:
    return f"{label(result)}, from disk" if _read(result) else label(result)


def _compiling(found: Result | None) -> str:
    if found is None:
        return ""
    if found["failure"] is not None:
        return "failed"
    return f"{found['seconds']:.1f} s, {found['graphs']} parts"


def _read(result: Result) -> bool:
    return bool(result["checkpoint"].startswith("synthetic:") and result.get("from_disk"))


def _budget(result: Result) -> str:
    budget = result.get("budget_bytes")
    return "" if budget is None else f", within {_gib(budget)} GiB: {result['plan']}"


def _schedule(result: Result) -> str:
    return "" if result["schedule"] in ("karras", "consistency") else f" ({result['schedule']})"


def _spread(values: dict[str, float], digits: int) -> str:
    low, middle, high = (f"{values[key]:.{digits}f}" for key in ("min", "median", "max"))
    return f"{middle} ({low} to {high})"


def _gib(size: int | None) -> str:
    return "" if size is None else f"{size / GIB:.2f}"


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f}"


def _distances(found: Result | None) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    psnr = found["psnr_db"]
    same = "the same" if psnr is None else f"{psnr:.1f}"
    return f"{found['latents']:.3f}", f"{found['grey_levels']:.2f}", same


def _errors(part: Result) -> str:
    if "ratio" in part:
        return f"{part['fused_error']:.2e} : {part['reference_error']:.2e} = {part['ratio']:.3f}"
    return f"{part['distance']:.1e} apart"


def _milliseconds(found: float | str | None) -> str:
    return f"{found:.3f}" if isinstance(found, float) else "refused" if found else ""


if __name__ == "__main__":
    main()
