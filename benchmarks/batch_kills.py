"""What is lost when a batch is killed at a random moment, and run again?

    python -m benchmarks.batch_kills [--kills N] [--seed N] [--postgresql] [--json FILE]

Each kill has a batch of its own, on the fake tier and on SQLite or a PostgreSQL started for it: killed with SIGKILL at a random moment of
a clip's life, a third of them within its publication, some of them an ffmpeg instead. The same batch is
then run to its end, and must have every job done once, by a row and a file that decodes, with nothing
temporary left. How is told in tests/batch/kills.py. Writes
results/batch_kills.json, or results/batch_kills_postgresql.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.options import count, count_or_none, run, target

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_VARIABLE = "SVD_TEST_POSTGRES"


def main() -> None:
    """Kill, look, print, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=count, default=200)
    parser.add_argument("--seed", type=count_or_none, default=1)
    parser.add_argument(
        "--postgresql", action="store_true", help="on a server of its own, not on SQLite"
    )
    parser.add_argument("--json", type=target)
    arguments = parser.parse_args()
    with _server() if arguments.postgresql else nullcontext() as server:
        result = measure(arguments.kills, arguments.seed, server)
    text = json.dumps(result, indent=2) + "\n"
    name = "batch_kills_postgresql.json" if arguments.postgresql else "batch_kills.json"
    path: Path = arguments.json or RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(text, end="")
    if not result["reached"]:
        sys.exit(1)


@contextmanager
def _server() -> Iterator[str]:
    """The URL of a PostgreSQL for the kills alone, as the tests start theirs."""
    sys.path.insert(0, str(ROOT / "tests"))
    from servers.postgres import binaries, cluster

    programs = binaries()
    if programs is None:
        sys.exit("PostgreSQL's server is not installed (Debian: apt-get install postgresql)")
    with cluster(programs) as url:
        yield url


def measure(kills: int, seed: int, server: str | None = None) -> dict[str, Any]:
    """Make the kills in a process of their own, whose children are killed.

    Args:
        kills: how many at least.
        seed: of the moments.
        server: the URL of a PostgreSQL that has the catalogs; None: SQLite.
    """
    environment = {name: value for name, value in os.environ.items() if name != _VARIABLE}
    with tempfile.TemporaryDirectory(prefix="svd-local-kills-") as folder:
        script = ROOT / "tests" / "batch" / "kills.py"
        done = subprocess.run(
            [sys.executable, str(script), folder, str(kills), str(seed)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=environment if server is None else {**environment, _VARIABLE: server},
        )
    database = "sqlite" if server is None else "postgresql"
    return summed(json.loads(done.stdout), seed, database)


def summed(found: dict[str, Any], seed: int, database: str) -> dict[str, Any]:
    """What the kills came to."""
    kills = found["kills"]
    within = [kill for kill in kills if kill["within_publication"]]
    wrong = [kill for kill in kills if kill["wrong"]]
    left = Counter(
        "{videos} files, {rows} rows, {staging} unfinished".format(**kill["left"]) for kill in kills
    )
    return {
        "benchmark": "batch_kills",
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        },
        "database": database,
        "seed": seed,
        "spans_s": {name: round(span, 4) for name, span in found["spans_s"].items()},
        "kills": len(kills),
        "within_publication": len(within),
        "of_ffmpeg": sum(kill["victim"] == "ffmpeg" for kill in kills),
        "adopted": sum(kill["adopted"] for kill in kills),
        "left_by_the_kill": dict(sorted(left.items())),
        "wrong": wrong,
        "reached": not wrong and 3 * len(within) >= len(kills),
    }


if __name__ == "__main__":
    run(main)
