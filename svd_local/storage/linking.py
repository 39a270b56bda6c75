"""A clip's files in a second folder: hard links where the file system allows, copies elsewhere."""

from __future__ import annotations

import dataclasses
import filecmp
import os
import shutil
from pathlib import Path

from svd_local.result import Files
from svd_local.storage.faults import storing
from svd_local.storage.names import wanted_stems
from svd_local.storage.staging import SUFFIXES, Staging


def link_or_copy(files: Files, folder: Path, *, stem: str | None = None) -> Files:
    """Bring a published clip's files into ``folder``, under ``stem`` or their own name.

    Where that name is taken a number is added to it. Where ``folder`` has the clip already (the same
    files, or equal ones, under one of those names) those are answered, so that asking twice makes
    nothing twice. Published as ``Staging`` does it.

    Raises:
        InvalidRequest: ``stem`` is no plain file name.
        StorageFailed: a file is gone, or the folder cannot be written.
        DiskFull: there is no room for a copy.
        ValueError: there is no video.
    """
    if files.video is None:
        raise ValueError("there is no video to bring anywhere")
    named = {
        "manifest": files.manifest,
        "poster": files.poster,
        "video": files.video,
    }
    sources = {field: path for field, path in named.items() if path is not None}
    wanted = files.video.stem if stem is None else stem
    folder = folder.absolute()
    with storing(folder):
        for name in wanted_stems(wanted):
            there = {field: folder / f"{name}{path.suffix}" for field, path in sources.items()}
            if all(_equal(sources[field], there[field]) for field in sources):
                return dataclasses.replace(files, **there)
            if not any((folder / f"{name}{suffix}").exists() for suffix in SUFFIXES):
                break
    with Staging(folder) as staging:
        lengths = {}
        with storing(folder):
            for path in sources.values():
                _link_or_copy(path, staging.path(path.suffix))
                lengths[path.suffix] = path.stat().st_size
        suffixes = [path.suffix for path in sources.values()]
        paths = staging.publish("", suffixes, lengths=lengths, stem=wanted)
    return dataclasses.replace(
        files, **{field: paths[path.suffix] for field, path in sources.items()}
    )


def _equal(source: Path, there: Path) -> bool:
    return there.is_file() and (source.samefile(there) or filecmp.cmp(source, there, shallow=False))


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another device, no hard links there, or not allowed; a copy fails for real reasons only.
        shutil.copyfile(source, target)
