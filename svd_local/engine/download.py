"""``svd-local models pull``: bring a checkpoint into the models folder, only what is needed of it.

A checkpoint appears whole: it is gathered under ``.partial`` and renamed when every file has its
checksum. An interrupted pull goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svd_local.engine import tiny
from svd_local.engine.aliases import (
    PUBLISHED,
    SYNTHETIC_FRAMES,
    TINY,
    by_repo,
    suggestion,
    unet_of,
)
from svd_local.engine.architecture import COMPONENTS
from svd_local.engine.checkpoint import LOCK_FILE, Checkpoint, read_lock
from svd_local.engine.checkpoints import distilled_checkpoint, pull_name, resolve
from svd_local.engine.distilled import find_unet
from svd_local.engine.hub import RemoteFile, Repository, fetch, look_up, matches
from svd_local.engine.verify import file_sha256, require_whole
from svd_local.errors import CheckpointBroken, CheckpointUnknown, DiskFull, StorageFailed

OnProgress = Callable[[int, int, str], None]
"""Told bytes that are here, bytes in all, and the file at hand. May raise to stop."""

_PARTIAL = ".partial"
_CONFIGURATION = (".json", ".txt")
_SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Offer:
    """What a pull would do: shown before a byte is fetched."""

    name: str
    repo: str
    commit: str
    licence: str | None
    licence_url: str
    gated: bool
    folder: Path
    files: tuple[RemoteFile, ...]
    total_bytes: int
    missing_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "repo": self.repo,
            "commit": self.commit,
            "licence": self.licence,
            "licence_url": self.licence_url,
            "gated": self.gated,
            "folder": str(self.folder),
            "files": [file.name for file in self.files],
            "total_bytes": self.total_bytes,
            "missing_bytes": self.missing_bytes,
        }


def pull(
    name: str,
    models_dir: Path,
    *,
    token: str | None = None,
    on_offer: Callable[[Offer], None] | None = None,
    on_progress: OnProgress | None = None,
    endpoint: str | None = None,
) -> Checkpoint:
    """Have ``name`` in the models folder, whole and checked.

    What is there already is kept where its checksum is right. ``tiny-svd`` is made instead, and the
    synthetic ones need nothing. Of a distilled one only the UNet's file is fetched; what is returned
    says in ``base`` whether the checkpoint that it belongs to is here.

    Args:
        name: an alias or ``org/name``.
        models_dir: the models folder.
        token: the hub's; None takes the hub's own login, if any.
        on_offer: told size and licence before anything is fetched; an exception it raises stops.
        on_progress: told of bytes as they come.
        endpoint: another hub's base URL.

    Raises:
        CheckpointUnknown: nothing of that name can be pulled.
        CheckpointGated: its licence must be accepted first.
        CheckpointOffline: the hub is out of reach, or downloads are switched off.
        CheckpointBroken: it has no safetensors, or a file arrived damaged.
        DiskFull: it would not fit; nothing was fetched.
        StorageFailed: the models folder cannot be written.
    """
    try:
        return _pull(name, models_dir, token, on_offer, on_progress, endpoint)
    except OSError as error:
        raise StorageFailed(
            f"the models folder {models_dir} cannot be written: {error}",
            hint="Set SVD_LOCAL_MODELS_DIR to a folder that can be written.",
        ) from error


def _pull(
    name: str,
    models_dir: Path,
    token: str | None,
    on_offer: Callable[[Offer], None] | None,
    on_progress: OnProgress | None,
    endpoint: str | None,
) -> Checkpoint:
    if name == TINY:
        tiny.ensure(models_dir)
        return resolve(name, models_dir)
    if name in SYNTHETIC_FRAMES:
        return resolve(name, models_dir)
    repository, wanted = _ask(name, token, endpoint)
    offer = _offer(repository, wanted, models_dir)
    if on_offer is not None:
        on_offer(offer)
    gather(repository, offer, token=token, on_progress=on_progress, endpoint=endpoint)
    unet = find_unet(repository.repo, models_dir)
    if unet is None:
        checkpoint = resolve(repository.repo, models_dir)
    else:
        checkpoint = distilled_checkpoint(unet, models_dir)
    if unet is None or checkpoint.base is not None:
        require_whole(checkpoint)
    return checkpoint


def pull_any(
    repo: str,
    models_dir: Path,
    *,
    token: str | None = None,
    on_progress: OnProgress | None = None,
    endpoint: str | None = None,
) -> Path:
    """The folder of any checkpoint in the diffusers layout, fetched by the same rules.

    Raises:
        As ``pull``.
    """
    repository, wanted = _ask(repo, token, endpoint, required=())
    offer = _offer(repository, wanted, models_dir)
    gather(repository, offer, token=token, on_progress=on_progress, endpoint=endpoint)
    return offer.folder


def select(files: Sequence[RemoteFile], required: Sequence[str] = ()) -> tuple[RemoteFile, ...]:
    """What of a repository in the diffusers layout is worth fetching.

    The configuration, and of the weights one variant in safetensors: fp16 where every component has
    it, else the plain one. Never the single files at the top, which hold the same weights again.

    Raises:
        CheckpointBroken: a ``required`` component has no safetensors.
    """
    plain: dict[str, list[RemoteFile]] = {}
    half: dict[str, list[RemoteFile]] = {}
    chosen = []
    for file in files:
        folder, _, base = file.name.rpartition("/")
        if base.endswith(_CONFIGURATION):
            chosen.append(file)
        elif folder and base.endswith(".safetensors"):
            variant = half if ".fp16." in base or ".fp16-" in base else plain
            variant.setdefault(folder, []).append(file)
    components = plain.keys() | half.keys()
    missing = [component for component in required if component not in components]
    if missing:
        raise CheckpointBroken(
            f"the repository has no safetensors weights for {', '.join(missing)}; pickles, which can "
            "run code when they are loaded, are never fetched",
            hint="Name a repository in the diffusers layout with safetensors.",
            field="checkpoint",
        )
    weights = half if components == half.keys() else plain
    for folder in sorted(components):
        chosen += weights.get(folder) or half[folder]
    return tuple(sorted(chosen, key=lambda file: (file.size, file.name)))


def gather(
    repository: Repository,
    offer: Offer,
    *,
    token: str | None,
    on_progress: OnProgress | None,
    endpoint: str | None = None,
) -> None:
    """Fetch what an offer lists into its folder, which appears when all of it is there.

    Raises:
        As ``pull``.
    """
    # Public, but huggingface_hub's type information does not mark it so.
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    draft = _draft_of(offer.folder)
    draft.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(draft.with_name(draft.name + ".lock")):
        if _is_current(offer):
            return
        _require_room(offer)
        counter = _Counter(offer.total_bytes, on_progress)
        for file in offer.files:
            counter.file = file.name
            target = draft / file.name
            if _is_here(file, offer.folder / file.name, target):
                counter(file.size)
            else:
                target.unlink(missing_ok=True)
                fetch(repository, file, target, token=token, on_bytes=counter, endpoint=endpoint)
        _write_lock(offer, draft)
        _publish(draft, offer.folder)


class _Counter:
    """Adds up bytes over all files and hands the sum on."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total = total
        self._here = 0
        self._on_progress = on_progress
        self.file = ""

    def __call__(self, count: int) -> None:
        self._here += count
        if self._on_progress is not None:
            self._on_progress(self._here, self._total, self.file)


def _ask(
    name: str,
    token: str | None,
    endpoint: str | None,
    required: Sequence[str] = COMPONENTS,
) -> tuple[Repository, tuple[RemoteFile, ...]]:
    """The repository ``name`` stands for, and what of it is wanted."""
    unet = unet_of(name)
    if unet is not None:
        repository = look_up(unet.repo, token=token, endpoint=endpoint)
        return repository, _file_of(repository, unet.file)
    repo = PUBLISHED[name].repo if name in PUBLISHED else name
    if repo.count("/") != 1 or ".." in repo or repo.startswith(("/", ".", "~")):
        raise CheckpointUnknown(
            f"{name[:120]!r} is nothing that can be pulled",
            hint=suggestion(name),
            field="checkpoint",
        )
    repository = look_up(repo, token=token, endpoint=endpoint)
    if not any(file.name == "model_index.json" for file in repository.files):
        raise CheckpointBroken(
            f"{repo} has no model_index.json, so it is no checkpoint in the diffusers layout",
            hint="Name a repository in the diffusers layout.",
            field="checkpoint",
        )
    return repository, select(repository.files, required)


def _file_of(repository: Repository, name: str) -> tuple[RemoteFile]:
    for file in repository.files:
        if file.name == name:
            return (file,)
    raise CheckpointBroken(
        f"{repository.repo} has no {name} any more",
        hint="Look at its page on the hub; a file you have is put into the models folder by hand.",
        field="checkpoint",
    )


def _offer(repository: Repository, wanted: tuple[RemoteFile, ...], models_dir: Path) -> Offer:
    published = by_repo(repository.repo) or unet_of(repository.repo)
    folder = models_dir / pull_name(repository.repo)
    total = sum(file.size for file in wanted)
    return Offer(
        name=published.alias if published else repository.repo,
        repo=repository.repo,
        commit=repository.commit,
        licence=published.licence if published else repository.licence,
        licence_url=published.licence_url
        if published
        else f"https://huggingface.co/{repository.repo}",
        gated=repository.gated,
        folder=folder,
        files=wanted,
        total_bytes=total,
        missing_bytes=total - sum(_bytes_here(folder, file) for file in wanted),
    )


def _bytes_here(folder: Path, file: RemoteFile) -> int:
    """How much of ``file`` lies here by size: in its place, or as far as an earlier pull came."""
    draft = _draft_of(folder) / file.name
    for path in (folder / file.name, draft, draft.with_name(draft.name + ".part")):
        if path.is_file():
            return min(path.stat().st_size, file.size)
    return 0


def _draft_of(folder: Path) -> Path:
    return folder.parent / _PARTIAL / folder.name


def _is_current(offer: Offer) -> bool:
    """Whether the folder holds this very commit, by its lock and its files' sizes and checksums."""
    if read_lock(offer.folder).get("commit") != offer.commit:
        return False
    return all(matches(offer.folder / file.name, file) for file in offer.files)


def _is_here(file: RemoteFile, installed: Path, target: Path) -> bool:
    """Whether the draft has ``file``, from an earlier pull or from what is installed now.

    What is installed stays in use until the draft takes its place.
    """
    if matches(target, file):
        return True
    if not matches(installed, file):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(installed)
    except OSError:  # a file system without hard links
        shutil.copyfile(installed, target)
    return True


def _require_room(offer: Offer) -> None:
    free = shutil.disk_usage(offer.folder.parent).free
    if offer.missing_bytes + _SPARE_BYTES > free:
        raise DiskFull(
            f"{offer.name} needs {offer.missing_bytes / 1e9:.2f} GB more, "
            f"{offer.folder.parent} has {free / 1e9:.2f} GB free",
            hint="Make room, or set SVD_LOCAL_MODELS_DIR to a larger disk.",
        )


def _write_lock(offer: Offer, draft: Path) -> None:
    files = {
        file.name: {
            "size": file.size,
            "sha256": file.sha256 or file_sha256(draft / file.name),
        }
        for file in offer.files
    }
    lock = {
        "repo": offer.repo,
        "commit": offer.commit,
        "licence": offer.licence,
        "licence_url": offer.licence_url,
        "files": files,
    }
    text = json.dumps(lock, indent=1, sort_keys=True) + "\n"
    (draft / LOCK_FILE).write_text(text, encoding="utf-8")


def _publish(draft: Path, folder: Path) -> None:
    """Move the finished draft into its place, past whatever half checkpoint stands there."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix="old-", dir=draft.parent))
        folder.rename(old / folder.name)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        draft.rename(folder)
