"""Put measured attention kernels into the package: one entry for each model of GPU.

    python -m benchmarks.attention_table [RESULT ...]

Reads results of `benchmarks.attention`, those in ``benchmarks/results`` where none is named, and rewrites
`svd_local/engine/fused/attention.json`. Results of a CPU are refused: there is nothing to choose there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.common import RESULTS, Result, write_json
from svd_local.engine.fused.attention import TABLE, Measured


def main() -> int:
    """Exit status 0, or 1 where there was nothing to put in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", nargs="*", type=Path)
    parser.add_argument("--table", type=Path, default=TABLE)
    arguments = parser.parse_args()
    named = arguments.results or sorted(RESULTS.rglob("attention.json"))
    if not named:
        print(f"no attention.json below {RESULTS}: run benchmarks/run_gpu.sh --only attention")
        return 1
    table = json.loads(arguments.table.read_text(encoding="utf-8"))
    for path in named:
        entry = entry_of(json.loads(path.read_text(encoding="utf-8")), path)
        table |= entry
        print(f"{path}: {', '.join(entry)}")
    write_json(arguments.table, dict(sorted(table.items())))
    return 0


def entry_of(result: Result, path: Path) -> Result:
    """What a result says of its GPU.

    Raises:
        SystemExit: it is no such result, or not of a GPU.
    """
    if result.get("benchmark") != "attention" or not result.get("gpu"):
        raise SystemExit(f"{path} is no result of benchmarks.attention on a GPU")
    for one in result["rows"]:
        Measured.of(one)
    return {result["gpu"]: {"versions": result["versions"], "rows": result["rows"]}}


if __name__ == "__main__":
    sys.exit(main())
