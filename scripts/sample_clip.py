"""Make a clip of the sample lesson; what ``scripts/quickstart`` runs once everything is installed.

Further arguments go to ``svd-local generate``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from svd_local.cli import run

LESSON = Path(__file__).resolve().parent.parent / "examples" / "lesson" / "lesson.json"


def arguments() -> list[str]:
    """The sample lesson as a command line."""
    words = ["generate"]
    for field, value in json.loads(LESSON.read_text(encoding="utf-8")).items():
        words += [f"--{field}", str(LESSON.parent / value) if field == "image" else value]
    return words


if __name__ == "__main__":
    sys.exit(run([*arguments(), *sys.argv[1:]]))
