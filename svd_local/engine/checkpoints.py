"""Checkpoints by name: an alias, ``org/name``, a folder, one file, or one that is made on the spot.

No network, no torch: names are looked up in the models folder and in the hub's own cache.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from svd_local.engine.aliases import (
    DEFAULT_ORDER,
    PUBLISHED,
    PUBLISHED_UNETS,
    SYNTHETIC_FRAMES,
    SYNTHETIC_PREFIX,
    TINY,
    by_repo,
    unet_of,
)
from svd_local.engine.architecture import full_size
from svd_local.engine.architecture import tiny as tiny_architecture
from svd_local.engine.checkpoint import Checkpoint, read_lock, repair_hint
from svd_local.engine.checkpoint_files import (
    DEFAULT_SIZE,
    at_path,
    no_checkpoint,
    of_file,
    of_folder,
    read_folder,
    refused,
    short_name,
    unknown,
)
from svd_local.engine.descriptions import SIZE_FILE
from svd_local.engine.distilled import DistilledUNet, find_unet, installed_unets
from svd_local.engine.hub_cache import snapshot_of
from svd_local.engine.original import files as single_files
from svd_local.engine.original.check import problems_of
from svd_local.engine.original.recognise import SUFFIX
from svd_local.engine.verify import require_whole, verify
from svd_local.errors import CheckpointBroken, CheckpointUnavailable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_PATH = re.compile(r"([/~\\]|\.\.?[/\\]|[A-Za-z]:[/\\])")
_FILE = re.compile(r"[/\\].*(\.safetensors|\.ckpt|\.pt|\.pth|\.bin)$", re.IGNORECASE | re.DOTALL)
"""A path that does not begin like one and is plainly a file's."""


def resolve(name: str | None, models_dir: Path, *, allow_paths: bool = True) -> Checkpoint:
    """The checkpoint ``name`` stands for; None stands for svd-xt where installed, else svd.

    Args:
        name: an alias, ``org/name``, a folder or the stem of a file in the models folder,
            ``tiny-svd``, ``synthetic:svd``, ``synthetic:svd-xt``, or a path (it begins with /, ./,
            ../ or ~, or names a file).
        models_dir: the models folder.
        allow_paths: take paths as well; a service that listens to strangers does not.

    Raises:
        CheckpointUnknown: nothing goes by that name.
        CheckpointUnavailable: it is known and not installed.
        CheckpointBroken: the folder or file is there and is no checkpoint.
    """
    if name is None:
        return _default(models_dir)
    if name == TINY:
        return _tiny(models_dir)
    if name.startswith(SYNTHETIC_PREFIX):
        return _synthetic(name)
    if looks_like_path(name):
        if not allow_paths:
            raise unknown(name, "is a path, and only names are taken here")
        return at_path(name, Path(name).expanduser())
    if not _NAME.fullmatch(name):
        raise unknown(name, "is no name a checkpoint can have")
    unet = find_unet(name, models_dir)
    if unet is not None:
        return _whole_distilled(unet, models_dir)
    return _named(name, models_dir, allow_paths=allow_paths)


def looks_like_path(name: str) -> bool:
    """Whether ``name`` is a path rather than an alias or ``org/name``."""
    return _PATH.match(name) is not None or _FILE.search(name) is not None


def resolve_distilled(name: str | None, models_dir: Path) -> Checkpoint:
    """The distilled checkpoint that ``name`` stands for, or that replaces the UNet of ``name``.

    Of several for one checkpoint a published one comes first, then the first by name; those whose files
    are not whole are passed over. The notes say what else there was.

    Args:
        name: of a distilled UNet or of a checkpoint; None stands for svd-xt.
        models_dir: the models folder.

    Raises:
        CheckpointUnavailable: no distilled UNet for that checkpoint is installed, or not the checkpoint.
        CheckpointBroken: those that are installed are all damaged, or the checkpoint is.
        CheckpointUnknown: as `resolve`.
    """
    base = resolve(name or DEFAULT_ORDER[0], models_dir)
    if base.unet is not None:
        return base
    fitting = [one for one in installed_unets(models_dir) if one.base in (base.name, base.repo)]
    if fitting:
        return _best(fitting, base)
    published = next((one for one in PUBLISHED_UNETS.values() if one.base == base.name), None)
    error = CheckpointUnavailable(
        f"no distilled UNet for checkpoint {base.name} is installed",
        hint="Put one into the models folder as models/README.md says, or take svd-xt."
        if published is None
        else f"Run: svd-local models pull {published.alias}",
        field="speed",
    )
    error.missing = published.alias if published else None
    raise error


def _best(unets: list[DistilledUNet], base: Checkpoint) -> Checkpoint:
    """The one of ``unets`` to take, with notes on the others."""
    require_whole(base)
    found = [_distilled(one, base) for one in unets]
    problems = {one.name: verify(one) for one in found}
    whole = sorted(
        (one for one in found if not problems[one.name]), key=lambda one: unet_of(one.name) is None
    )
    broken = [one for one in found if problems[one.name]]
    told = [f"{one.name} was passed over: {problems[one.name][0]}" for one in broken]
    if not whole:
        raise CheckpointBroken(
            f"no distilled UNet for checkpoint {base.name} is whole: {'; '.join(told)}",
            hint=repair_hint(broken[0]),
            field="speed",
        )
    taken, *others = whole
    if others:
        names = ", ".join(one.name for one in others)
        told.insert(
            0,
            f"{taken.name} was taken of {len(whole)} distilled UNets for {base.name}; "
            f"--checkpoint names another: {names}",
        )
    return dataclasses.replace(taken, notes=tuple(told))


def distilled_checkpoint(unet: DistilledUNet, models_dir: Path) -> Checkpoint:
    """A distilled UNet as a checkpoint, whether or not what it belongs to is installed.

    Raises:
        CheckpointBroken: what it belongs to is damaged, distilled itself, or has no files.
    """
    if find_unet(unet.base, models_dir) is not None:
        raise _no_base(unet, f"{unet.base}, which is itself distilled")
    try:
        return _distilled(unet, resolve(unet.base, models_dir))
    except CheckpointBroken:
        raise
    except CheckpointUnavailable:
        return _distilled(unet, None)


def list_installed(models_dir: Path) -> list[Checkpoint]:
    """Every checkpoint with files on this machine: the models folder's, then the hub cache's, then the
    distilled ones.
    """
    found: list[Checkpoint] = []
    for folder in sorted(models_dir.iterdir()) if models_dir.is_dir() else []:
        if not folder.name.startswith(".") and (folder / "model_index.json").is_file():
            found.append(_tiny(models_dir) if folder.name == TINY else of_folder(folder))
    found += [of_file(path) for path in single_files.installed(models_dir)]
    for published in PUBLISHED.values():
        cached = snapshot_of(published.repo)
        if cached is not None and not any(one.name == published.alias for one in found):
            found.append(read_folder(published.alias, cached[0], "hub-cache", published, cached[1]))
    return [*found, *(_listed(one, models_dir) for one in installed_unets(models_dir))]


def pull_name(repo: str) -> str:
    """The folder under the models folder that ``repo`` is pulled into."""
    published = by_repo(repo) or unet_of(repo)
    return published.alias if published is not None else repo.replace("/", "--")


def _whole_distilled(unet: DistilledUNet, models_dir: Path) -> Checkpoint:
    """A distilled UNet with the checkpoint it belongs to, which must be there."""
    checkpoint = distilled_checkpoint(unet, models_dir)
    _ = unet.file  # refused now rather than when it is loaded
    if checkpoint.base is None:
        error = CheckpointUnavailable(
            f"checkpoint {unet.name} replaces the UNet of {unet.base}, which is not installed",
            hint=f"Run: svd-local models pull {unet.base}",
            field="checkpoint",
        )
        error.missing = unet.base
        raise error
    return checkpoint


def _listed(unet: DistilledUNet, models_dir: Path) -> Checkpoint:
    """For a list, in which one that is of no use hides no other; its note says why."""
    try:
        return distilled_checkpoint(unet, models_dir)
    except CheckpointBroken as error:
        return dataclasses.replace(_distilled(unet, None), notes=(error.message,))


def _distilled(unet: DistilledUNet, base: Checkpoint | None) -> Checkpoint:
    if base is not None and base.path is None:
        raise _no_base(unet, f"{base.name}, which has no files")
    known, lock = unet_of(unet.name), read_lock(unet.folder)
    return Checkpoint(
        name=unet.name,
        path=unet.folder,
        width=DEFAULT_SIZE[0] if base is None else base.width,
        height=DEFAULT_SIZE[1] if base is None else base.height,
        frames=25 if base is None else base.frames,
        source="models-folder",
        synthetic=base is not None and base.synthetic,
        licence=known.licence if known else lock.get("licence"),
        repo=known.repo if known else lock.get("repo"),
        commit=lock.get("commit"),
        unet=unet,
        base=base,
    )


def _no_base(unet: DistilledUNet, what: str) -> CheckpointBroken:
    return CheckpointBroken(
        f"checkpoint {unet.name} says it replaces the UNet of {what}",
        hint=f"Write the name of an installed checkpoint into {unet.folder / SIZE_FILE}.",
        field="checkpoint",
    )


def _default(models_dir: Path) -> Checkpoint:
    for alias in DEFAULT_ORDER:
        try:
            return _named(alias, models_dir, allow_paths=False)
        except CheckpointBroken:
            raise
        except CheckpointUnavailable:
            continue
    raise CheckpointUnavailable(
        f"no checkpoint is installed in {models_dir} or in the hub's cache",
        hint=f"Run: svd-local models pull {DEFAULT_ORDER[0]}",
        field="checkpoint",
    )


def _tiny(models_dir: Path) -> Checkpoint:
    made = tiny_architecture()
    return Checkpoint(
        TINY, models_dir / TINY, made.width, made.height, made.frames, "made-here", synthetic=True
    )


def _synthetic(name: str) -> Checkpoint:
    frames = SYNTHETIC_FRAMES.get(name)
    if frames is None:
        raise unknown(name, "is not known")
    made = full_size(frames)
    return Checkpoint(name, None, made.width, made.height, frames, "made-here", synthetic=True)


def _named(name: str, models_dir: Path, *, allow_paths: bool) -> Checkpoint:
    distilled = unet_of(name)
    if distilled is not None:
        raise CheckpointUnavailable(
            f"checkpoint {distilled.alias} is not installed",
            hint=f"Run: svd-local models pull {distilled.alias}",
            field="checkpoint",
        )
    published = PUBLISHED.get(name) or by_repo(name)
    repo = published.repo if published else (name if "/" in name else None)
    names = dict.fromkeys(
        [*([published.alias] if published else []), *([repo] if repo else []), name]
    )
    folders = [models_dir / one.replace("/", "--") for one in names]
    if "/" in name:
        folders.append(models_dir / name)
    for folder in folders:
        if (folder / "model_index.json").is_file():
            return read_folder(
                short_name(name, published), folder, "models-folder", published, None
            )
    single = single_files.find(models_dir, names)
    if single is not None:
        return of_file(single)
    cached = snapshot_of(repo) if repo else None
    if cached is not None:
        return read_folder(
            short_name(name, published), cached[0], "hub-cache", published, cached[1], repo
        )
    if allow_paths and "/" in name and (Path(name) / "model_index.json").is_file():
        return at_path(name, Path(name))
    if allow_paths and name.endswith(SUFFIX) and Path(name).is_file():
        return at_path(name, Path(name))
    for folder in folders:
        if folder.is_dir():
            raise no_checkpoint(name, folder)
    pickle = single_files.find_pickle(models_dir, name)
    if pickle is not None:
        raise refused(name, problems_of(pickle)[0])
    if repo is None:
        raise unknown(name, "is not known")
    gated = "; accept its licence on the hub first" if published and published.gated else ""
    raise CheckpointUnavailable(
        f"checkpoint {name} is not installed",
        hint=f"Run: svd-local models pull {name}{gated}",
        field="checkpoint",
    )
