"""How long ``svd-local batch MANIFEST --dry-run`` takes for a long manifest, and its peak memory.

    python -m benchmarks.manifest [--rows N] [--json FILE]

Four manifests: CSV and JSON Lines with templates, words and one picture that all rows share; CSV in
which every row has a picture of its own, whose header is read; and the same with no picture there, so
that every row is told as bad. The whole command is measured, starting Python included; ``cpu_seconds``
is the processor's part of it. The aim for 100,000 rows is 60 s and 300 MB. Writes results/manifest.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.options import count, run, target

RESULT = Path(__file__).resolve().parent / "results" / "manifest.json"
TEMPLATE = "{lesson}/{index:06d}_{title}"
ALLOWED_S, ALLOWED_BYTES = 60.0, 300_000_000


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=count, default=100_000)
    parser.add_argument("--json", type=target, default=RESULT)
    arguments = parser.parse_args()
    result = measure(arguments.rows)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(rows: int) -> dict[str, Any]:
    """Seconds and peak bytes for each manifest, and whether they keep to what is allowed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifests = write(folder, rows)
        found = {kind: _validated(path, folder, good=rows) for kind, path in manifests.items()}
        shutil.rmtree(folder / "pictures")
        found["csv-missing"] = _validated(manifests["csv-pictures"], folder, good=0)
    return {
        "benchmark": "manifest",
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        },
        "versions": {"python": platform.python_version(), "pydantic": version("pydantic")},
        "rows": rows,
        "manifests": found,
        "allowed": {"seconds": ALLOWED_S, "peak_bytes": ALLOWED_BYTES},
        "reached": all(
            one["seconds"] <= ALLOWED_S and one["peak_bytes"] <= ALLOWED_BYTES
            for one in found.values()
        ),
    }


def write(folder: Path, rows: int) -> dict[str, Path]:
    """The manifests, with the pictures they name, in ``folder``."""
    pictures = folder / "pictures"
    pictures.mkdir()
    shared = pictures / "desk.jpg"
    Image.effect_noise((128, 72), 40).save(shared)
    data = shared.read_bytes()
    for number in range(rows):
        (pictures / f"{number}.jpg").write_bytes(data)
    paths = {
        kind: folder / f"{kind}.{kind.partition('-')[0]}"
        for kind in ("csv", "jsonl", "csv-pictures")
    }
    with paths["jsonl"].open("w", encoding="utf-8") as file:
        file.write(json.dumps({"defaults": {"title": "Lesson ${part}: ${lesson}"}}) + "\n")
        for row in _rows(rows, own_picture=False):
            del row["title"]
            file.write(json.dumps(row) + "\n")
    for kind in ("csv", "csv-pictures"):
        with paths[kind].open("w", encoding="utf-8", newline="") as file:
            table = _rows(rows, own_picture=kind != "csv")
            first = next(table)
            writer = csv.DictWriter(file, list(first))
            writer.writeheader()
            writer.writerow(first)
            writer.writerows(table)
    return paths


def _rows(count: int, *, own_picture: bool) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "lesson": f"Handling objections {number // 10}",
            "part": number % 10 + 1,
            "title": "Lesson ${part}: ${lesson}",
            "prompt": f"A salesperson listens to customer {number} across a table",
            "image": f"pictures/{number if own_picture else 'desk'}.jpg",
            "caption": "Listen first, then talk about value",
            "steps": 25,
            "seed": number,
        }


def _validated(path: Path, folder: Path, *, good: int) -> dict[str, Any]:
    """One run of the command. Its peak is the operating system's word, in bytes."""
    command = (
        *(sys.executable, "-m", "svd_local", "batch", str(path), "--dry-run", "--json"),
        *("--output-template", TEMPLATE),
    )
    environment = {**os.environ, "SVD_LOCAL_MEDIA_DIR": str(folder / "media")}
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    document = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode != (0 if good else 2) or document["good_jobs"] != good:
        raise RuntimeError(f"{path.name} is not as it should be: {document.get('error')}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_bytes": usage.ru_maxrss * unit,
        "file_bytes": path.stat().st_size,
    }


if __name__ == "__main__":
    run(main)
