"""Words into a picture, by a text-to-image checkpoint of the user's choice.

Any checkpoint in the diffusers layout that ``AutoPipelineForText2Image`` knows. It is loaded for one
picture and dropped again, because the video networks need the memory next.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svd_local.engine.context import LOST_HINT, why_lost
from svd_local.engine.hub_cache import snapshot_of
from svd_local.engine.identity import revision_of
from svd_local.engine.placement import empty_cache
from svd_local.engine.quiet import quiet
from svd_local.errors import (
    CheckpointBroken,
    CheckpointUnavailable,
    CheckpointUnknown,
    DeviceLost,
    OutOfMemory,
    TierFailed,
)

if TYPE_CHECKING:
    from PIL.Image import Image

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MULTIPLE = 8
_LARGEST_SIDE = 1024


@dataclass(frozen=True, slots=True)
class PictureModel:
    """A text-to-image checkpoint on this machine."""

    name: str
    path: Path

    @property
    def revision(self) -> str:
        """What its content is called, for fingerprints.

        Raises:
            CheckpointBroken: a file is damaged.
        """
        try:
            return revision_of(self.path)
        except (OSError, ValueError) as error:
            raise _broken(self.name, error) from error


def find(
    name: str,
    *,
    models_dir: Path,
    allow_download: bool = False,
    token: str | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> PictureModel:
    """The text-to-image checkpoint ``name``: a folder, one under the models folder, or ``org/name``.

    Args:
        name: as set by SVD_LOCAL_TEXT2IMAGE.
        models_dir: the models folder.
        allow_download: fetch an ``org/name`` that is not here.
        token: the hub's.
        on_progress: told of a download's bytes: so many here, so many in all, and the file.

    Raises:
        CheckpointUnknown: no folder and no repository of that name.
        CheckpointUnavailable: not here, and downloads are off.
    """
    for folder in (Path(name).expanduser(), models_dir / name.replace("/", "--")):
        if (folder / "model_index.json").is_file():
            return PictureModel(name, folder.resolve())
    if not _REPO.fullmatch(name):
        raise CheckpointUnknown(
            f"text-to-image checkpoint {name!r} is no folder and no org/name",
            hint="Set SVD_LOCAL_TEXT2IMAGE to a folder with a model_index.json, or to org/name.",
        )
    cached = snapshot_of(name)
    if cached is not None:
        return PictureModel(name, cached[0])
    if not allow_download:
        raise CheckpointUnavailable(
            f"text-to-image checkpoint {name} is not installed",
            hint=f"Put it into {models_dir / name.replace('/', '--')}, or set SVD_LOCAL_ALLOW_DOWNLOAD=1.",
        )
    from svd_local.engine.download import pull_any

    return PictureModel(name, pull_any(name, models_dir, token=token, on_progress=on_progress))


def render(model: PictureModel, prompt: str, size: tuple[int, int], *, seed: int) -> Image:
    """A picture of ``prompt``: RGB, of about the shape of ``size`` (width, height in pixels).

    Sides are multiples of 8 and at most 1024, which is what such models are made for; the keyframe
    is scaled from there. The noise comes from a generator on the CPU, the same on every device.

    Raises:
        CheckpointBroken: it cannot be loaded.
        OutOfMemory: it does not fit.
        DeviceLost: the GPU answers this process no more.
        TierFailed: it failed otherwise.
    """
    import torch

    width, height = _shape(size)
    pipeline = _load(model)
    try:
        with quiet():
            output = pipeline(
                prompt,
                width=width,
                height=height,
                generator=torch.Generator("cpu").manual_seed(seed),
            )
        picture: Image = output.images[0].convert("RGB")
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"the text-to-image checkpoint {model.name} does not fit in memory at {width}x{height}",
            hint="Choose a smaller one, or give a picture with --image.",
        ) from error
    except (RuntimeError, ValueError, TypeError) as error:
        lost = why_lost() if torch.cuda.is_available() else None
        if lost is not None:
            raise DeviceLost(
                f"the GPU was lost while {model.name} painted: {lost}", hint=LOST_HINT
            ) from error
        raise TierFailed(
            f"the text-to-image checkpoint {model.name} failed: {error}",
            hint="Give a picture with --image, or unset SVD_LOCAL_TEXT2IMAGE.",
        ) from error
    finally:
        del pipeline
        empty_cache()
    return picture


def _load(model: PictureModel) -> Any:
    """The pipeline, whole networks moved to the GPU as they are needed where there is one."""
    import torch
    from safetensors import SafetensorError

    on_gpu = torch.cuda.is_available()
    half = any(model.path.glob("*/*.fp16.safetensors"))
    try:
        with quiet():
            from diffusers import AutoPipelineForText2Image

            pipeline = AutoPipelineForText2Image.from_pretrained(
                model.path,
                torch_dtype=torch.float16 if on_gpu else torch.float32,
                variant="fp16" if half else None,
                use_safetensors=True,
                local_files_only=True,
            )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _broken(model.name, error) from error
    pipeline.set_progress_bar_config(disable=True)
    if on_gpu:
        pipeline.enable_model_cpu_offload()
    return pipeline


def _shape(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, _LARGEST_SIDE / max(size))
    width, height = (max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in size)
    return width, height


def _broken(name: str, error: Exception) -> CheckpointBroken:
    return CheckpointBroken(
        f"text-to-image checkpoint {name} cannot be used: {error}",
        hint="Check the folder, or unset SVD_LOCAL_TEXT2IMAGE.",
    )
