"""A checkpoint's revision: a short name for its content that is cheap to find and stable.

It does not depend on where the files lie or when they were written. Reading gigabytes to hash them
would cost more than loading them, so of each tensor only its first bytes are read: two trainings
differ in nearly every weight, and so in nearly every one of these samples.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from svd_local.engine.safetensors_header import read_header

_SAMPLE = 256
"""Bytes read of each tensor."""
_SKIPPED_FILES = ("svd_local.lock.json",)


def revision_of(path: Path) -> str:
    """Sixteen hex digits that stand for the configuration and weights in a folder, or in one file.

    What a single file is called does not count, nor what lies beside it.

    Raises:
        OSError: a file cannot be read.
        ValueError: a safetensors file is broken.
    """
    files = content_files(path) if path.is_dir() else [path]
    stamps = tuple((str(one), one.stat().st_size, one.stat().st_mtime_ns) for one in files)
    return _revision(path, stamps)


def revision_of_file(path: Path) -> str:
    """Sixteen hex digits that stand for one safetensors file, wherever it lies.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no whole safetensors file.
    """
    stat = path.stat()
    return _revision(path.parent, ((str(path), stat.st_size, stat.st_mtime_ns),))


def content_files(folder: Path) -> list[Path]:
    """The configuration and safetensors files of ``folder`` that a pipeline may load, sorted."""
    candidates = [*folder.glob("*.json"), *folder.glob("*/*.json"), *folder.glob("*/*.safetensors")]
    return sorted(
        path
        for path in candidates
        if path.name not in _SKIPPED_FILES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


@functools.lru_cache(maxsize=64)
def _revision(root: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, size, _ in stamps:
        path = Path(name)
        # Of a file that is the checkpoint itself, the name within it is "."
        digest.update(f"{path.relative_to(root).as_posix()}\0{size}\0".encode())
        if path.suffix == ".json":
            digest.update(path.read_bytes())
            continue
        header = read_header(path)
        digest.update(header.raw)
        with path.open("rb") as file:
            for tensor in header.tensors:
                file.seek(tensor.begin)
                digest.update(file.read(min(_SAMPLE, tensor.end - tensor.begin)))
    return digest.hexdigest()[:16]
