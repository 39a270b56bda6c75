"""Single files in the models folder by name, and what each was made for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from svd_local.engine.descriptions import SIZE_FILE
from svd_local.engine.original.recognise import (
    PICKLES,
    SUFFIX,
    frames_of,
    kind_of,
    looks_like_one,
    title_of,
)
from svd_local.engine.safetensors_header import read_header

STEMS = {"svd": "svd", "svd-xt": "svd_xt", "svd-xt-1.1": "svd_xt_1_1"}
"""What the published files are called, by the alias of the checkpoint."""
_USUAL_FRAMES = 25


@dataclass(frozen=True, slots=True)
class Native:
    """What a file was made for, as far as it can be told, and what cannot."""

    frames: int
    size: tuple[int, int] | None
    """Width and height in pixels, where they are not the usual ones."""
    synthetic: bool
    notes: tuple[str, ...]


def native_of(path: Path) -> Native:
    """From the header and the name of a file, which may be damaged."""
    said, size, synthetic = frames_of(path.stem), None, False
    with contextlib.suppress(ValueError, OSError):  # what is wrong with it is `check`'s to say
        header = read_header(path)
        kind = kind_of(header)
        said, synthetic = kind.frames or said or frames_of(title_of(header)), kind.synthetic
        if synthetic:
            made = kind.build(_USUAL_FRAMES)
            size = (made.width, made.height)
    notes: tuple[str, ...] = ()
    if said is None:
        notes = (
            f"nothing in {path.name} says whether it is made for 14 or {_USUAL_FRAMES} frames: "
            f'{_USUAL_FRAMES} it is, unless {described_in(path)[0].name} says {{"frames": 14}}',
        )
    return Native(said or _USUAL_FRAMES, size, synthetic, notes)


def described_in(path: Path) -> tuple[Path, ...]:
    """Where the native size and frame count of a file may be written, the nearest first."""
    return (path.with_name(f"{path.stem}.{SIZE_FILE}"), path.with_name(SIZE_FILE))


def find(models_dir: Path, names: Iterable[str]) -> Path | None:
    """The single file that one of ``names`` stands for: its stem, the stem of its alias, or itself."""
    for name in names:
        for stem in dict.fromkeys((name.removesuffix(SUFFIX), STEMS.get(name, name))):
            path = models_dir / f"{stem}{SUFFIX}"
            if "/" not in stem and path.is_file():
                return path
    return None


def find_pickle(models_dir: Path, name: str) -> Path | None:
    """A file of that name that will not be opened."""
    if "/" in name:
        return None
    names = (name, *(f"{name}{suffix}" for suffix in PICKLES))
    candidates = (models_dir / one for one in names if one.lower().endswith(PICKLES))
    return next((path for path in candidates if path.is_file()), None)


def installed(models_dir: Path) -> list[Path]:
    """The single files of a models folder, whole or damaged; other models in it are left out."""
    if not models_dir.is_dir():
        return []
    return sorted(
        path
        for path in models_dir.glob(f"*{SUFFIX}")
        if path.is_file() and not path.name.startswith(".") and looks_like_one(path)
    )
