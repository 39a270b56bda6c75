"""The table of whole clips: seconds and gigabytes on GPUs, and on a CPU how they compare."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.plots import speed_of
from benchmarks.tables.cells import (
    Result,
    budget_of,
    by_device,
    engine_of,
    gib,
    grid,
    mib,
    rehearsed,
    schedule,
    spread,
    where,
)


def clip(results: Sequence[Result]) -> str:
    """Seconds and gigabytes of whole clips on GPUs; on a CPU how they compare."""
    return by_device(results, _clip_on_gpu, _clip_on_cpu)


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
                f"{engine_of(result)}{budget_of(result)}",
                f"{result['steps']}{schedule(result)}",
                spread(result["seconds_per_clip"], 2),
                f"{result['gpu_s']:.2f}",
                spread(result["step_ms"], 1),
                f"{result['phases']['decode']['median']:.2f}",
                gib(result["peak_bytes"]),
                _compiling(result.get("compile")),
                where(result),
            )
            for result in ordered
        ),
    )


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
                f"{speed_of(result) or 'exact'}{schedule(result)}",
                result["steps"],
                mib(result["budget_bytes"]),
                result["plan"],
                f"{middle / base:.2f} ({least / base:.2f} to {most / base:.2f})" if base else "",
                mib(result["predicted_peak_bytes"]),
                mib(result["peak_bytes"]) or "not counted",
            )
        )
    head = (
        "engine | speed | steps | budget MiB | plan | times the exact reference's processor time in as many "
        "steps | tensors MiB, predicted | counted"
    )
    return f"{rehearsed(results)}:\n\n{grid(head, rows)}"


def _compiling(found: Result | None) -> str:
    if found is None:
        return ""
    if found["failure"] is not None:
        return "failed"
    return f"{found['seconds']:.1f} s, {found['graphs']} parts"
