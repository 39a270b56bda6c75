"""Make the package's table of kernels from measurements: who won, on which GPU, at which width, how.

    python -m benchmarks.kernel_table benchmarks/results/twins_25f.json benchmarks/results/twins_14f.json

Results of one GPU are taken together: a kernel is entered where it wins in each of them, with the
configuration of the first, which is why the longer clip comes first. Of the two kernels that stand for
GEGLU the faster one is. The GPU's entry is replaced, other GPUs' stay. A kernel that came out otherwise than
its twin at any size of a clip is left out, and said; a result in which no kernel ran is refused.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Result, write_json
from svd_local.engine.fused.kernels.choice import KERNELS, table

TABLE = ROOT / "svd_local" / "engine" / "fused" / "kernels" / "table.json"


def main() -> None:
    """Read results, write the table, say what is in it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path, nargs="+", help="of benchmarks.twins, on one GPU")
    parser.add_argument("--table", type=Path, default=TABLE)
    arguments = parser.parse_args()
    results = {path.name: json.loads(path.read_text("utf-8")) for path in arguments.results}
    try:
        gpu, entry = entry_of(results)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    write_json(arguments.table, dict(sorted({**table(), gpu: entry}.items())))
    for kernel in entry["wrong"]:
        print(f"{gpu}: {kernel} is left out: it computed something else than torch")
    for kernel, widths in entry["kernels"].items():
        for width, one in widths.items():
            print(f"{gpu}: {kernel} at {width}: {one['times_faster']} times faster")


def entry_of(results: dict[str, Result]) -> tuple[str, dict[str, Any]]:
    """The GPU's name and its entry.

    Raises:
        ValueError: results of no GPU or of several, or one in which no kernel ran.
    """
    gpus = {result["gpu"] for result in results.values()}
    if len(gpus) != 1 or None in gpus:
        raise ValueError(f"the results must be of one GPU, not of {sorted(map(str, gpus))}")
    for name, result in results.items():
        if result.get("refused"):
            raise ValueError(
                f"{name}: no kernel ran there ({result['refused']}); nothing is entered"
            )
    wrong = {
        trial["kernel"]
        for result in results.values()
        for trial in result["trials"]
        if not trial["agrees"]
    }
    first = next(iter(results.values()))
    kernels: dict[str, dict[str, Result]] = {}
    for kernel in (one for one in KERNELS if one not in wrong):
        for width in first["widths"].get(kernel, {}):
            won = _won(kernel, width, list(results.values()))
            if won is not None:
                kernels.setdefault(kernel, {})[width] = won
    return next(iter(gpus)), {
        "versions": first["versions"],
        "from": list(results),
        "wrong": sorted(wrong),
        "kernels": kernels,
    }


def _won(kernel: str, width: str, results: list[Result]) -> Result | None:
    """An entry, where the kernel wins in every result that has it, against its rival too."""
    found = [result["widths"].get(kernel, {}).get(width) for result in results]
    if not all(one is not None and one["wins"] for one in found):
        return None
    rival = {"geglu": "geglu-product", "geglu-product": "geglu"}.get(kernel)
    if rival is not None:
        others = [result["widths"].get(rival, {}).get(width) for result in results]
        theirs = sum(one["kernel_ms"] for one in others if one and one["wins"])
        beaten = all(one and one["wins"] for one in others)
        if beaten and theirs < sum(one["kernel_ms"] for one in found if one):
            return None
    faster = [round(one["twin_ms"] / one["kernel_ms"], 2) for one in found if one]
    return {"config": found[0]["config"] if found[0] else None, "times_faster": min(faster)}


if __name__ == "__main__":
    main()
