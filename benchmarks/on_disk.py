"""Random weights as files, for what has to be read from disk: loading, and networks larger than the GPU."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.checkpoints import resolve
from svd_local.engine.descriptions import SIZE_FILE
from svd_local.engine.loading import Precision, load
from svd_local.engine.placement import empty_cache
from svd_local.engine.quiet import quiet


def on_disk(
    checkpoint: Checkpoint, device: str, precision: Precision, models_dir: Path
) -> Checkpoint:
    """``checkpoint`` with files: itself, or, where it is made on the device, a copy that is written once.

    The copy lies under the models folder and takes 4.5 GB at full size in half precision.
    """
    if checkpoint.path is not None:
        return checkpoint
    folder = models_dir / f"{checkpoint.name.replace(':', '-')}-{precision.name}"
    if not folder.is_dir():
        _write(checkpoint, device, precision, folder)
    found = resolve(str(folder.absolute()), models_dir)
    return dataclasses.replace(found, name=checkpoint.name, synthetic=True)


def _write(checkpoint: Checkpoint, device: str, precision: Precision, folder: Path) -> None:
    """Whole or not at all: beside its place, then renamed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    size = {"width": checkpoint.width, "height": checkpoint.height, "frames": checkpoint.frames}
    try:
        variant = "fp16" if precision.itemsize == 2 else None
        with quiet():
            pipeline = load(checkpoint, device, precision)
            pipeline.save_pretrained(draft, safe_serialization=True, variant=variant)
        del pipeline
        empty_cache()
        (draft / SIZE_FILE).write_text(json.dumps(size) + "\n", encoding="utf-8")
        draft.rename(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(draft)
