"""Distilled UNets in the models folder: one safetensors file that replaces the UNet of a checkpoint.

A folder with one is a published alias, or says in ``svd_local.json`` whose UNet its file replaces:

    {"distilled_from": "svd-xt"}

The keys are diffusers' own, so that nothing is converted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svd_local.engine.aliases import unet_of
from svd_local.errors import CheckpointBroken

MARK = "distilled_from"


@dataclass(frozen=True, slots=True)
class DistilledUNet:
    """A folder under the models folder, and the name of the checkpoint it belongs to."""

    name: str
    folder: Path
    base: str

    @property
    def file(self) -> Path:
        """The weights.

        Raises:
            CheckpointBroken: there is no safetensors file in the folder, or more than one.
        """
        files = sorted(path for path in self.folder.glob("*.safetensors") if path.is_file())
        if len(files) == 1:
            return files[0]
        count = f"{len(files)} safetensors files" if files else "no safetensors file"
        raise CheckpointBroken(
            f"checkpoint {self.name}: {self.folder} holds {count}, a distilled UNet is one",
            hint="Leave the one file of the UNet there.",
            field="checkpoint",
        )


def find_unet(name: str, models_dir: Path) -> DistilledUNet | None:
    """The distilled UNet of this name, alias, folder or repository; None where there is none."""
    known = unet_of(name)
    folder = models_dir / (known.alias if known else name.replace("/", "--"))
    if folder.parent != models_dir or (folder / "model_index.json").is_file():
        return None
    base = _settings(folder).get(MARK, known.base if known else None)
    if not folder.is_dir() or not isinstance(base, str):
        return None
    return DistilledUNet(known.alias if known else name, folder, base)


def installed_unets(models_dir: Path) -> list[DistilledUNet]:
    """All of them, by name."""
    folders = sorted(models_dir.iterdir()) if models_dir.is_dir() else []
    found = (find_unet(path.name, models_dir) for path in folders if not path.name.startswith("."))
    return [unet for unet in found if unet is not None]


def _settings(folder: Path) -> Mapping[str, Any]:
    """What the folder says of itself; nothing where nothing readable is."""
    try:
        value = json.loads((folder / "svd_local.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
