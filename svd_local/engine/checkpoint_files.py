"""Checkpoints by their files: a folder in the diffusers layout, or everything in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from svd_local.engine.aliases import PUBLISHED, TINY, Published, by_repo, suggestion
from svd_local.engine.checkpoint import Checkpoint, Source, read_lock
from svd_local.engine.descriptions import SIZE_FILE, frame_count, read_json, side
from svd_local.engine.original import files as single_files
from svd_local.engine.original.check import problems_of
from svd_local.engine.original.recognise import PICKLES, SUFFIX
from svd_local.errors import CheckpointBroken, CheckpointUnknown

DEFAULT_SIZE = (1024, 576)
"""Width and height in pixels of a checkpoint that says neither."""


def at_path(name: str, path: Path) -> Checkpoint:
    """The checkpoint at a path: a folder in the diffusers layout, or one file.

    Raises:
        CheckpointUnknown: nothing is there.
        CheckpointBroken: what is there is no checkpoint.
    """
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise no_checkpoint(name, path)
        return of_folder(path.resolve(), source="folder")
    if not path.is_file():
        raise unknown(name, "is no folder and no file")
    if path.suffix.lower() in PICKLES:
        raise refused(name, problems_of(path)[0])
    if path.suffix.lower() != SUFFIX:
        raise refused(name, f"it is neither a folder nor a {SUFFIX} file")
    # Not resolved: in the hub's cache a name is a link to a file that is called by its checksum.
    return of_file(path.absolute(), source="file")


def of_folder(folder: Path, source: Source = "models-folder") -> Checkpoint:
    """The checkpoint in a folder, under the name that the folder's own name stands for."""
    name = folder.name.replace("--", "/", 1)
    published = PUBLISHED.get(name) or by_repo(name)
    return read_folder(short_name(name, published), folder, source, published, None)


def of_file(path: Path, source: Source = "models-folder") -> Checkpoint:
    """The checkpoint in one file, under its stem where that is no folder's name.

    Raises:
        CheckpointBroken: what describes it beside it cannot be read.
    """
    taken = path.stem == TINY or (path.with_suffix("") / "model_index.json").is_file()
    name = path.name if taken else path.stem
    alias = next((alias for alias, stem in single_files.STEMS.items() if stem == path.stem), None)
    native = single_files.native_of(path)
    size: dict[str, Any] = {}
    for place in reversed(single_files.described_in(path)):
        size |= read_json(name, place)
    width, height = native.size or DEFAULT_SIZE
    return Checkpoint(
        name=name,
        path=path,
        width=side(name, size.get("width", width)),
        height=side(name, size.get("height", height)),
        frames=frame_count(name, size.get("frames", native.frames)),
        source=source,
        synthetic=native.synthetic or size.get("synthetic") is True,
        licence=PUBLISHED[alias].licence if alias and not native.synthetic else None,
        layout="original",
        notes=() if "frames" in size else native.notes,
    )


def read_folder(
    name: str,
    folder: Path,
    source: Source,
    published: Published | None,
    commit: str | None,
    repo: str | None = None,
) -> Checkpoint:
    """The checkpoint in ``folder``, from its own configuration files.

    Raises:
        CheckpointBroken: one of them cannot be read, or says what cannot be.
    """
    lock = read_lock(folder)
    size = read_json(name, folder / SIZE_FILE)
    unet = read_json(name, folder / "unet" / "config.json")
    fallback = published.frames if published else 25
    return Checkpoint(
        name=name,
        path=folder,
        width=side(name, size.get("width", DEFAULT_SIZE[0])),
        height=side(name, size.get("height", DEFAULT_SIZE[1])),
        frames=frame_count(name, size.get("frames", unet.get("num_frames", fallback))),
        source=source,
        synthetic=size.get("synthetic") is True,
        licence=published.licence if published else lock.get("licence"),
        repo=published.repo if published else lock.get("repo", repo),
        commit=commit or lock.get("commit"),
    )


def short_name(name: str, published: Published | None) -> str:
    """What a checkpoint is called in results: by its alias, where it has one."""
    return published.alias if published else name


def unknown(name: str, why: str) -> CheckpointUnknown:
    """The error for a name that nothing goes by."""
    return CheckpointUnknown(
        f"checkpoint {name[:120]!r} {why}", hint=suggestion(name), field="checkpoint"
    )


def no_checkpoint(name: str, folder: Path) -> CheckpointBroken:
    """The error for a folder that is there and holds no checkpoint in the diffusers layout."""
    single = sorted(folder.glob(f"*{SUFFIX}"))
    what = f"only the single file {single[0].name}" if single else "no model_index.json"
    hint = "Give the folder that holds model_index.json, unet/, vae/ and image_encoder/."
    if single:
        hint = f"Give the file itself, as --checkpoint {single[0]}, if it is one of SVD."
    return CheckpointBroken(
        f"checkpoint {name}: {folder} holds {what}, so it is no checkpoint in the diffusers layout",
        hint=hint,
        field="checkpoint",
    )


def refused(name: str, why: str) -> CheckpointBroken:
    """The error for what is there and not taken, for the reason ``why``."""
    return CheckpointBroken(
        f"checkpoint {name}: {why}",
        hint=f"Give a folder in the diffusers layout, or a {SUFFIX} file.",
        field="checkpoint",
    )
