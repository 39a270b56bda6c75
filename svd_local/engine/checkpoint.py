"""The value ``Checkpoint``: what is on this machine under one name, and what it was trained for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from svd_local.engine import synthetic, tiny
from svd_local.engine.aliases import TINY
from svd_local.engine.architecture import Architecture, full_size
from svd_local.engine.architecture import tiny as tiny_architecture
from svd_local.engine.distilled import DistilledUNet
from svd_local.engine.identity import revision_of, revision_of_file
from svd_local.engine.original.recognise import architecture_of
from svd_local.errors import CheckpointBroken

LOCK_FILE = "svd_local.lock.json"
"""What ``pull`` records beside a checkpoint: where it came from and its files' checksums."""

Source = Literal["models-folder", "hub-cache", "folder", "file", "made-here"]
Layout = Literal["diffusers", "original"]
"""A folder with a network each, or Stability's own form: everything in one file."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint on this machine, and what it was trained for.

    A distilled one is a single file, that of ``unet``, and the checkpoint ``base`` whose UNet it
    replaces; None where that is not installed.

    ``path`` is None for one that has no files (``synthetic:...``), and may not exist yet for
    ``tiny-svd``; in the original layout it is a file, else a folder. ``width`` and ``height`` are
    pixels. ``notes`` say what of this had to be assumed.
    """

    name: str
    path: Path | None
    width: int
    height: int
    frames: int
    source: Source
    synthetic: bool = False
    licence: str | None = None
    repo: str | None = None
    commit: str | None = None
    layout: Layout = "diffusers"
    notes: tuple[str, ...] = ()
    unet: DistilledUNet | None = None
    base: Checkpoint | None = None

    @property
    def revision(self) -> str:
        """What its content is called: equal for equal files, wherever they lie.

        Raises:
            CheckpointBroken: a file is damaged, or went away.
        """
        if self.unet is not None and self.base is not None:
            try:
                return f"{self.base.revision}+{revision_of_file(self.unet.file)}"
            except (OSError, ValueError) as error:
                raise self._broken(error) from error
        made = self._recipe() if self.source == "made-here" else None
        if self.path is None or (made is not None and not self.path.is_dir()):
            assert made is not None
            return made
        try:
            content = revision_of(self.path)
        except (OSError, ValueError) as error:
            raise self._broken(error) from error
        untouched = made is not None and content == read_lock(self.path).get("revision")
        return made if made is not None and untouched else content

    def architecture(self) -> Architecture | None:
        """Its networks, where no configuration files say them: it is made here, or one whole file.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is none of a known architecture.
        """
        if self.source == "made-here":
            return tiny_architecture() if self.name == TINY else full_size(self.frames)
        if self.layout == "original" and self.path is not None:
            return architecture_of(self.path, self.frames)
        return None

    def _broken(self, error: Exception) -> CheckpointBroken:
        return CheckpointBroken(
            f"checkpoint {self.name}: {error}", hint=repair_hint(self), field="checkpoint"
        )

    def _recipe(self) -> str:
        """What one that is made on the spot is called, before it is made and as long as nobody changed it."""
        if self.name == TINY:
            return f"{self.name}:{tiny.RECIPE}:{tiny.SEED}"
        return f"{self.name}:{synthetic.RECIPE}:{synthetic.SEED}"

    def to_json(self) -> dict[str, Any]:
        """What ``status`` and ``models list`` say of it; the revision is left out, it takes reading."""
        return {
            "name": self.name,
            "path": None if self.path is None else str(self.path),
            "width": self.width,
            "height": self.height,
            "frames": self.frames,
            "source": self.source,
            "synthetic": self.synthetic,
            "licence": self.licence,
            "repo": self.repo,
            "commit": self.commit,
            "layout": self.layout,
            "notes": list(self.notes),
            "base": None if self.unet is None else self.unet.base,
        }


def repair_hint(checkpoint: Checkpoint) -> str:
    """What to do about a checkpoint that is here and damaged."""
    if checkpoint.source == "made-here":
        return f"Delete {checkpoint.path}; it is made again."
    if checkpoint.repo is not None:
        return f"Run: svd-local models pull {checkpoint.name}"
    if checkpoint.unet is not None:
        return (
            f"Have one safetensors file in {checkpoint.unet.folder}: the whole UNet, with diffusers' key "
            f"names, distilled from {checkpoint.unet.base}; models/README.md says more."
        )
    if checkpoint.layout == "original":
        return (
            "Give a whole file of Stable Video Diffusion, such as svd_xt.safetensors; if this one is "
            "damaged, copy it again from where it came."
        )
    return f"Copy the folder {checkpoint.path} again from where it came."


def read_lock(folder: Path) -> dict[str, Any]:
    """What ``pull`` recorded in ``folder``; empty where nothing readable is."""
    try:
        lock = json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return lock if isinstance(lock, dict) else {}
