"""What configuration files say of a checkpoint, refused where it means nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from svd_local.errors import CheckpointBroken

SIZE_FILE = "svd_local.json"
"""Where a checkpoint says its native size and frame count, beside ``model_index.json`` or its one file."""


def read_json(name: str, path: Path) -> dict[str, Any]:
    """A configuration file of the checkpoint ``name``; empty where it is missing.

    Raises:
        CheckpointBroken: it cannot be read, or holds no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _bad_config(name, path.name, str(error)) from error
    if not isinstance(value, dict):
        raise _bad_config(name, path.name, "it holds no object")
    return value


def side(name: str, value: Any) -> int:
    """Pixels that a picture can have along a side.

    Raises:
        CheckpointBroken: it is no such number.
    """
    if isinstance(value, int) and 64 <= value <= 4096 and value % 8 == 0:
        return value
    raise _bad_config(name, SIZE_FILE, f"{value!r} is no side of 64 to 4096 pixels in steps of 8")


def frame_count(name: str, value: Any) -> int:
    """A number of frames that a checkpoint can be made for.

    Raises:
        CheckpointBroken: it is no such number.
    """
    if isinstance(value, int) and 2 <= value <= 200:
        return value
    raise _bad_config(name, f"{SIZE_FILE} or unet/config.json", f"{value!r} is no frame count")


def _bad_config(name: str, file: str, why: str) -> CheckpointBroken:
    return CheckpointBroken(
        f"checkpoint {name}: {file} cannot be used: {why}",
        hint="Repair or replace the file.",
        field="checkpoint",
    )
