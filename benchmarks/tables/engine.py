"""The tables of the engine: how near to the reference, what each saving gives, modes, and counted work."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables.cells import Result, grid, spread, where


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
                where(result),
            )
        )
    head = "frames | type | step, fused : reference | decode, fused : reference | pixel values within one level | passed | on"
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
                spread(mode["seconds"], 2),
                spread(mode["times_faster"], 2),
                *_distances(mode["from_exact"]),
            )
            for mode in result["modes"]
        ]
        head = (
            "mode | steps | seconds | times faster | latents, relative L2 | grey levels | PSNR dB"
        )
        title = (
            f"{result['frames']} frames of {result['width']}x{result['height']}, {where(result)}"
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
