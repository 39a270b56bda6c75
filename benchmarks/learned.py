"""What was measured on this GPU a moment ago, taken as if it were in the package's tables already.

So a run on a new GPU measures which kernels are the fastest there, and the engine with them, without
anybody in between. A result of another GPU, or of none, changes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.common import Result, gpu_name
from benchmarks.kernel_table import entry_of
from svd_local.engine.fused import attention
from svd_local.engine.fused.kernels import choice


def given(arguments: argparse.Namespace) -> list[str]:
    """The options ``--attention`` and ``--twins`` (`common.arguments_for`), for another process."""
    found: list[str] = []
    for name in ("attention", "twins"):
        path = getattr(arguments, name, None)
        found += [] if path is None else [f"--{name}", str(path.resolve())]
    return found


def learn(arguments: argparse.Namespace) -> None:
    """Go by what the options name, where it is of this GPU."""
    gpu = gpu_name(arguments.device)
    attended = _of(gpu, arguments.attention)
    if attended is not None:
        attention.learn(attended["gpu"], attended["rows"])
    twins = _of(gpu, arguments.twins)
    if twins is None:
        return
    try:
        choice.learn(*entry_of({arguments.twins.name: twins}))
    except ValueError as error:  # a kernel was wrong: the engine is measured without any
        print(error, file=sys.stderr, flush=True)


def _of(gpu: str | None, path: Path | None) -> Result | None:
    """The result in a file, unless it is of something else."""
    if path is None:
        return None
    found: Result = json.loads(path.read_text(encoding="utf-8"))
    return found if gpu is not None and found.get("gpu") == gpu else None
