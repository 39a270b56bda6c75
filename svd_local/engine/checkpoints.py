"""Checkpoints by name: an alias, ``org/name``, a folder, one file, or one that is made on the spot.

No network, no torch: names are looked up in the models folder and in the hub's own cache.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from svd_local.engine import synthetic, tiny
from svd_local.engine.aliases import (
    DEFAULT_ORDER,
    PUBLISHED,
    PUBLISHED_UNETS,
    SYNTHETIC_FRAMES,
    SYNTHETIC_PREFIX,
    TINY,
    Published,
    by_repo,
    suggestion,
    unet_of,
)
from svd_local.engine.architecture import Architecture, full_size
from svd_local.engine.architecture import tiny as tiny_architecture
from svd_local.engine.descriptions import SIZE_FILE, frame_count, read_json, side
from svd_local.engine.distilled import DistilledUNet, find_unet, installed_unets
from svd_local.engine.hub_cache import snapshot_of
from svd_local.engine.identity import revision_of, revision_of_file
from svd_local.engine.original import files as single_files
from svd_local.engine.original.check import problems_of
from svd_local.engine.original.recognise import PICKLES, SUFFIX, architecture_of
from svd_local.errors import CheckpointBroken, CheckpointUnavailable, CheckpointUnknown

LOCK_FILE = "svd_local.lock.json"
"""What ``pull`` records beside a checkpoint: where it came from and its files' checksums."""

Source = Literal["models-folder", "hub-cache", "folder", "file", "made-here"]
Layout = Literal["diffusers", "original"]
"""A folder with a network each, or Stability's own form: everything in one file."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_PATH = re.compile(r"([/~\\]|\.\.?[/\\]|[A-Za-z]:[/\\])")
_FILE = re.compile(r"[/\\].*(\.safetensors|\.ckpt|\.pt|\.pth|\.bin)$", re.IGNORECASE | re.DOTALL)
"""A path that does not begin like one and is plainly a file's."""
_DEFAULT_SIZE = (1024, 576)


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
            raise _unknown(name, "is a path, and only names are taken here")
        return _at(name, Path(name).expanduser())
    if not _NAME.fullmatch(name):
        raise _unknown(name, "is no name a checkpoint can have")
    unet = find_unet(name, models_dir)
    if unet is not None:
        return _whole_distilled(unet, models_dir)
    return _named(name, models_dir, allow_paths=allow_paths)


def looks_like_path(name: str) -> bool:
    """Whether ``name`` is a path rather than an alias or ``org/name``."""
    return _PATH.match(name) is not None or _FILE.search(name) is not None


def resolve_distilled(name: str | None, models_dir: Path) -> Checkpoint:
    """The distilled checkpoint that ``name`` stands for, or that replaces the UNet of ``name``.

    Args:
        name: of a distilled UNet or of a checkpoint; None stands for svd-xt.
        models_dir: the models folder.

    Raises:
        CheckpointUnavailable: no distilled UNet for that checkpoint is installed, or not the checkpoint.
        CheckpointUnknown, CheckpointBroken: as `resolve`.
    """
    base = resolve(name or DEFAULT_ORDER[0], models_dir)
    if base.unet is not None:
        return base
    for unet in installed_unets(models_dir):
        if unet.base in (base.name, base.repo):
            return _distilled(unet, base)
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


def distilled_checkpoint(unet: DistilledUNet, models_dir: Path) -> Checkpoint:
    """A distilled UNet as a checkpoint, whether or not what it belongs to is installed.

    Raises:
        CheckpointBroken: its folder does not hold one file, or what it belongs to is damaged.
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
            found.append(_tiny(models_dir) if folder.name == TINY else _of_folder(folder))
    found += [_of_file(path) for path in single_files.installed(models_dir)]
    for published in PUBLISHED.values():
        cached = snapshot_of(published.repo)
        if cached is not None and not any(one.name == published.alias for one in found):
            found.append(_read(published.alias, cached[0], "hub-cache", published, cached[1]))
    return [*found, *(distilled_checkpoint(one, models_dir) for one in installed_unets(models_dir))]


def repair_hint(checkpoint: Checkpoint) -> str:
    """What to do about a checkpoint that is here and damaged."""
    if checkpoint.source == "made-here":
        return f"Delete {checkpoint.path}; it is made again."
    if checkpoint.repo is not None:
        return f"Run: svd-local models pull {checkpoint.name}"
    if checkpoint.layout == "original":
        return (
            "Give a whole file of Stable Video Diffusion, such as svd_xt.safetensors; if this one is "
            "damaged, copy it again from where it came."
        )
    return f"Copy the folder {checkpoint.path} again from where it came."


def pull_name(repo: str) -> str:
    """The folder under the models folder that ``repo`` is pulled into."""
    published = by_repo(repo) or unet_of(repo)
    return published.alias if published is not None else repo.replace("/", "--")


def _whole_distilled(unet: DistilledUNet, models_dir: Path) -> Checkpoint:
    """A distilled UNet with the checkpoint it belongs to, which must be there."""
    checkpoint = distilled_checkpoint(unet, models_dir)
    if checkpoint.base is None:
        error = CheckpointUnavailable(
            f"checkpoint {unet.name} replaces the UNet of {unet.base}, which is not installed",
            hint=f"Run: svd-local models pull {unet.base}",
            field="checkpoint",
        )
        error.missing = unet.base
        raise error
    return checkpoint


def _distilled(unet: DistilledUNet, base: Checkpoint | None) -> Checkpoint:
    if base is not None and base.path is None:
        raise _no_base(unet, f"{base.name}, which has no files")
    known, lock = unet_of(unet.name), read_lock(unet.folder)
    _ = unet.file  # refused now rather than when it is loaded
    return Checkpoint(
        name=unet.name,
        path=unet.folder,
        width=_DEFAULT_SIZE[0] if base is None else base.width,
        height=_DEFAULT_SIZE[1] if base is None else base.height,
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
        raise _unknown(name, "is not known")
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
            return _read(_short(name, published), folder, "models-folder", published, None)
    single = single_files.find(models_dir, names)
    if single is not None:
        return _of_file(single)
    cached = snapshot_of(repo) if repo else None
    if cached is not None:
        return _read(_short(name, published), cached[0], "hub-cache", published, cached[1], repo)
    if allow_paths and "/" in name and (Path(name) / "model_index.json").is_file():
        return _at(name, Path(name))
    if allow_paths and name.endswith(SUFFIX) and Path(name).is_file():
        return _at(name, Path(name))
    for folder in folders:
        if folder.is_dir():
            raise _no_checkpoint(name, folder)
    pickle = single_files.find_pickle(models_dir, name)
    if pickle is not None:
        raise _refused(name, problems_of(pickle)[0])
    if repo is None:
        raise _unknown(name, "is not known")
    gated = "; accept its licence on the hub first" if published and published.gated else ""
    raise CheckpointUnavailable(
        f"checkpoint {name} is not installed",
        hint=f"Run: svd-local models pull {name}{gated}",
        field="checkpoint",
    )


def _at(name: str, path: Path) -> Checkpoint:
    """The checkpoint at a path: a folder in the diffusers layout, or one file."""
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise _no_checkpoint(name, path)
        return _of_folder(path.resolve(), source="folder")
    if not path.is_file():
        raise _unknown(name, "is no folder and no file")
    if path.suffix.lower() in PICKLES:
        raise _refused(name, problems_of(path)[0])
    if path.suffix.lower() != SUFFIX:
        raise _refused(name, f"it is neither a folder nor a {SUFFIX} file")
    # Not resolved: in the hub's cache a name is a link to a file that is called by its checksum.
    return _of_file(path.absolute(), source="file")


def _of_folder(folder: Path, source: Source = "models-folder") -> Checkpoint:
    name = folder.name.replace("--", "/", 1)
    published = PUBLISHED.get(name) or by_repo(name)
    return _read(_short(name, published), folder, source, published, None)


def _of_file(path: Path, source: Source = "models-folder") -> Checkpoint:
    """The checkpoint in one file, under its stem where that is no folder's name."""
    taken = path.stem == TINY or (path.with_suffix("") / "model_index.json").is_file()
    name = path.name if taken else path.stem
    alias = next((alias for alias, stem in single_files.STEMS.items() if stem == path.stem), None)
    native = single_files.native_of(path)
    size: dict[str, Any] = {}
    for place in reversed(single_files.described_in(path)):
        size |= read_json(name, place)
    width, height = native.size or _DEFAULT_SIZE
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


def _read(
    name: str,
    folder: Path,
    source: Source,
    published: Published | None,
    commit: str | None,
    repo: str | None = None,
) -> Checkpoint:
    """The checkpoint in ``folder``, from its own configuration files."""
    lock = read_lock(folder)
    size = read_json(name, folder / SIZE_FILE)
    unet = read_json(name, folder / "unet" / "config.json")
    fallback = published.frames if published else 25
    return Checkpoint(
        name=name,
        path=folder,
        width=side(name, size.get("width", _DEFAULT_SIZE[0])),
        height=side(name, size.get("height", _DEFAULT_SIZE[1])),
        frames=frame_count(name, size.get("frames", unet.get("num_frames", fallback))),
        source=source,
        synthetic=size.get("synthetic") is True,
        licence=published.licence if published else lock.get("licence"),
        repo=published.repo if published else lock.get("repo", repo),
        commit=commit or lock.get("commit"),
    )


def read_lock(folder: Path) -> dict[str, Any]:
    """What ``pull`` recorded in ``folder``; empty where nothing readable is."""
    try:
        lock = json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return lock if isinstance(lock, dict) else {}


def _short(name: str, published: Published | None) -> str:
    return published.alias if published else name


def _unknown(name: str, why: str) -> CheckpointUnknown:
    return CheckpointUnknown(
        f"checkpoint {name[:120]!r} {why}", hint=suggestion(name), field="checkpoint"
    )


def _no_checkpoint(name: str, folder: Path) -> CheckpointBroken:
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


def _refused(name: str, why: str) -> CheckpointBroken:
    return CheckpointBroken(
        f"checkpoint {name}: {why}",
        hint=f"Give a folder in the diffusers layout, or a {SUFFIX} file.",
        field="checkpoint",
    )
