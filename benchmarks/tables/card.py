"""The tables of the card itself: its ceilings, torch's attention kernels, and our kernels against their twins."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables.cells import Result, engine_of, grid, milliseconds, where


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
        parts.append(f"{where(result)}:\n\n{grid('what | at most', limits)}")
        attention = [one for one in result["operations"] if one["kind"] == "attention"]
        names = sorted({name for one in attention for name in one["backends_ms"]})
        rows = [
            (
                "({batch}, {heads}, {tokens}, {size})".format(**one),
                *(milliseconds(one["backends_ms"].get(name)) for name in names),
            )
            for one in attention
        ]
        parts.append(grid("attention, ms | " + " | ".join(names), rows))
    return "\n\n".join(parts)


def attention(results: Sequence[Result]) -> str:
    """Every backend's milliseconds for each of the engine's shapes."""
    parts = []
    for result in results:
        names = list(dict.fromkeys(name for row in result["rows"] for name in row["ms"]))
        names = [name for name in names if name != "preferred"]
        rows = [
            (
                f"({row['batch']}, {row['heads']}, {row['tokens']}, {row['size']})",
                *(milliseconds(row["ms"].get(name)) for name in names),
                row["backend"],
            )
            for row in result["rows"]
        ]
        head = " | ".join(("shape", *(f"{name} ms" for name in names), "taken"))
        parts.append(f"{where(result)}:\n\n{grid(head, rows)}")
    return "\n\n".join(parts)


def kernels(results: Sequence[Result]) -> str:
    """The heaviest kernels of a step."""
    parts = []
    for result in results:
        title = f"{engine_of(result)}, {result['frames']} frames, {where(result)}: "
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
            f"{result['frames']} frames, {where(result)}",
        )
        for result in results
        for kernel, widths in result["widths"].items()
        for width, one in widths.items()
    ]
    return grid("kernel | torch, ms a step | kernel, ms a step | times faster | wins | on", rows)
