"""Is a checkpoint whole? Answered from its files, without torch.

Quickly: the configuration names the right pipeline, every component has weights in safetensors, and
each file is as long as its header says. Thoroughly: checksums besides, where they are known.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from svd_local.engine.architecture import COMPONENTS
from svd_local.engine.checkpoint import Checkpoint, read_lock, repair_hint
from svd_local.engine.distilled import DistilledUNet
from svd_local.engine.original.check import problems_of
from svd_local.engine.original.recognise import PICKLES
from svd_local.engine.safetensors_header import BrokenHeader, read_header
from svd_local.errors import CheckpointBroken

PIPELINE_CLASS = "StableVideoDiffusionPipeline"
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "image_encoder": "model",
}
"""The file name of each component's weights, before ``.fp16`` and ``.safetensors``."""
_CONFIGS = (
    *(f"{part}/config.json" for part in COMPONENTS),
    "scheduler/scheduler_config.json",
    "feature_extractor/preprocessor_config.json",
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 2**20


def verify(checkpoint: Checkpoint, *, checksums: bool = False) -> list[str]:
    """What is wrong with the files of ``checkpoint``, one sentence each; empty where nothing is.

    ``checksums`` also reads every byte and compares with what was recorded at the pull, or with
    what the hub's cache calls its files. A checkpoint without files, or one that is made on the
    spot and was not yet, has nothing to be wrong.
    """
    if checkpoint.unet is not None:
        return list(_distilled(checkpoint, checkpoint.unet, checksums=checksums))
    folder = checkpoint.path
    if folder is None or (checkpoint.source == "made-here" and not folder.exists()):
        return []
    if checkpoint.layout == "original":
        return [*problems_of(folder)] or (list(_of_its_blob(folder)) if checksums else [])
    problems = list(_layout(folder))
    for component in COMPONENTS:
        problems.extend(_weights(folder, component))
    if checksums and not problems:
        problems.extend(_checksums(folder))
    return problems


def require_whole(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose files are not whole, before anything loads them.

    Raises:
        CheckpointBroken: says what is wrong with it.
    """
    if checkpoint.base is not None:
        require_whole(checkpoint.base)  # another folder, with a hint of its own
    problems = verify(checkpoint)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CheckpointBroken(
            f"checkpoint {checkpoint.name}: {problems[0]}{more}",
            hint=repair_hint(checkpoint),
            field="checkpoint",
        )


def weight_files(folder: Path, component: str, variant: str | None) -> list[Path]:
    """The safetensors of one component in one variant (``fp16``, or None for the plain ones).

    Empty where that variant is not there or not whole in number; a sharded one is read from its
    index.
    """
    stem = WEIGHTS[component]
    dotted = f".{variant}" if variant else ""
    single = folder / component / f"{stem}{dotted}.safetensors"
    if single.is_file():
        return [single]
    for index_name in (
        f"{stem}.safetensors.index{dotted}.json",
        f"{stem}{dotted}.safetensors.index.json",
    ):
        index = folder / component / index_name
        if index.is_file():
            return [folder / component / shard for shard in _shards(index)]
    return []


def best_variant(folder: Path, *, half: bool) -> str | None:
    """The variant to load: ``fp16`` for half precision or where it is the only one, else plain."""
    complete = {
        variant: all(weight_files(folder, component, variant) for component in COMPONENTS)
        for variant in ("fp16", None)
    }
    if complete["fp16"] and (half or not complete[None]):
        return "fp16"
    return None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _distilled(checkpoint: Checkpoint, unet: DistilledUNet, *, checksums: bool) -> Iterator[str]:
    """What is wrong with a UNet file, with what it belongs to, or between the two."""
    base = checkpoint.base
    problems = [] if base is None else verify(base, checksums=checksums)
    if base is None:
        yield from checkpoint.notes or (f"{unet.base}, whose UNet it replaces, is not installed",)
    else:
        yield from (f"{base.name}: {problem}" for problem in problems)
    try:
        file = unet.file
        found = _shapes([file])
    except CheckpointBroken as error:
        yield error.message.removeprefix(f"checkpoint {unet.name}: ")
        return
    except (BrokenHeader, OSError) as error:
        yield str(error)
        return
    if base is not None and base.path is not None and base.path.is_dir() and not problems:
        variant = best_variant(base.path, half=True)
        wanted = _shapes(weight_files(base.path, "unet", variant))
        unlike = sorted(dict(found.items() ^ wanted.items()))
        if unlike:
            yield (
                f"{file.name} is no UNet of {base.name}'s architecture: {len(unlike)} weights differ, "
                f"{unlike[0]} among them"
            )
    if checksums:
        yield from _checksums(file.parent)


def _shapes(files: list[Path]) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for path in files for tensor in read_header(path).tensors}


def _layout(folder: Path) -> Iterator[str]:
    try:
        index = _json(folder / "model_index.json")
    except FileNotFoundError:
        yield "model_index.json is missing"
        return
    except (OSError, ValueError) as error:
        yield f"model_index.json cannot be read: {error}"
        return
    if index.get("_class_name") != PIPELINE_CLASS:
        yield f"it is a {index.get('_class_name')}, not a {PIPELINE_CLASS}"
    for config in _CONFIGS:
        try:
            _json(folder / config)
        except FileNotFoundError:
            yield f"{config} is missing"
        except (OSError, ValueError) as error:
            yield f"{config} cannot be read: {error}"


def _weights(folder: Path, component: str) -> Iterator[str]:
    files: list[Path] = []
    for variant in ("fp16", None):
        try:
            files += weight_files(folder, component, variant)
        except (OSError, ValueError) as error:
            yield f"{component}: its index of shards cannot be read: {error}"
    if not files:
        pickles = [path for path in (folder / component).glob("*") if path.suffix in PICKLES]
        if pickles:
            yield (
                f"{component} has only {pickles[0].name}, a pickle, which can run code when it is "
                "loaded and is never opened; convert it to safetensors"
            )
        else:
            yield f"{component} has no safetensors weights"
    for path in files:
        try:
            read_header(path)
        except FileNotFoundError:
            yield f"{component}/{path.name} is missing"
        except (BrokenHeader, OSError) as error:
            yield f"{component}: {error}"


def _checksums(folder: Path) -> Iterator[str]:
    recorded: dict[str, Any] = read_lock(folder).get("files", {})
    for name, entry in sorted(recorded.items()):
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif file_sha256(path) != entry.get("sha256"):
            yield f"{name} is damaged: its checksum is not the one recorded when it was pulled"
    for path in sorted(folder.glob("*/*.safetensors")):
        yield from _of_its_blob(path, path.relative_to(folder).as_posix())


def _of_its_blob(path: Path, name: str | None = None) -> Iterator[str]:
    """The hub's cache names large files by their SHA-256, and has links to them."""
    blob = path.resolve().name
    if path.is_symlink() and _SHA256.fullmatch(blob) and file_sha256(path) != blob:
        yield f"{name or path.name} is damaged: its checksum is wrong"


def _shards(index: Path) -> list[str]:
    """The shards an index names, none of them outside the index's folder."""
    shards = sorted(set(_json(index)["weight_map"].values()))
    for shard in shards:
        if Path(shard).name != shard:
            raise ValueError(f"it names {shard!r}, which is not beside it")
    return shards


def _json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    return value
