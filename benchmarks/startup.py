"""How long ``svd-local --help`` takes, against an empty Python: both by turns, medians.

    python -m benchmarks.startup [--runs N] [--json FILE]

The aim is 5 x the empty interpreter plus 0.25 s. Writes results/startup.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.options import count, run, target

RESULT = Path(__file__).resolve().parent / "results" / "startup.json"
COMMANDS = {
    "empty": (sys.executable, "-c", "pass"),
    "help": (sys.executable, "-m", "svd_local", "--help"),
}


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=count, default=15)
    parser.add_argument("--json", type=target, default=RESULT)
    arguments = parser.parse_args()
    result = measure(arguments.runs)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(runs: int) -> dict[str, Any]:
    """Seconds of each command, and the allowance for help; the first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(runs + 1):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    allowed = 5 * medians["empty"] + 0.25
    return {
        "benchmark": "startup",
        "machine": {"processor": platform.machine(), "system": platform.system()},
        "versions": {"python": platform.python_version(), "typer": version("typer")},
        "runs": runs,
        "seconds": {
            name: {"median": medians[name], "min": min(values), "max": max(values)}
            for name, values in seconds.items()
        },
        "allowed_s": allowed,
        "reached": medians["help"] <= allowed,
    }


if __name__ == "__main__":
    run(main)
