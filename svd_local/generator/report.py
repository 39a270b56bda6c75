"""What this machine can do, answered without loading torch."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from svd_local.errors import MediaFailed
from svd_local.request import format_bytes
from svd_local.settings import Settings
from svd_local.tiers.base import Tier
from svd_local.tiers.gpus import list_gpus, no_cuda

_LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "huggingface_hub",
    "pillow",
    "imageio-ffmpeg",
)


def status_report(settings: Settings, tiers: Sequence[Tier], *, deep: bool) -> dict[str, Any]:
    """Tiers and why, what would leave this machine, GPU, memory, checkpoints, versions, paths."""
    from svd_local import __version__

    standing = [(tier.id, tier.availability()) for tier in tiers]
    rungs = [
        {
            "id": name,
            "available": here.available,
            "reason": here.reason,
            "hint": here.hint,
            "leaves_machine": here.leaves_machine,
        }
        for name, here in standing
    ]
    placeholder = {
        "id": "placeholder",
        "available": True,
        "reason": "a JSON file that says what was wanted, when nothing better serves",
        "hint": "",
        "leaves_machine": False,
    }
    last = next((n for n, rung in enumerate(rungs) if rung["id"] == "fake"), len(rungs))
    rungs.insert(last, placeholder)
    report = {
        "success": True,
        "version": __version__,
        "tiers": rungs,
        "would_leave_machine": [
            f"{name}: {here.reason}"
            for name, here in standing
            if here.available and here.leaves_machine
        ],
        "gpu": _gpus(),
        "memory": _memory(settings),
        "checkpoints": _checkpoints(settings),
        "ffmpeg": _ffmpeg(),
        "versions": {"python": platform.python_version(), **_versions()},
        "paths": {
            "media_dir": str(settings.media_dir.absolute()),
            "videos_dir": str(settings.videos_dir.absolute()),
            "models_dir": str(settings.models_dir.absolute()),
            "catalog": settings.catalog_place,
        },
    }
    if deep:
        report["torch"] = _torch()
    return report


def _torch() -> dict[str, Any]:
    """What torch itself sees, or why it does not load."""
    from svd_local.engine.devices import look

    try:
        return look()
    except ImportError as error:
        return {"version": None, "reason": f"torch does not load: {error}"}


def _gpus() -> dict[str, Any]:
    """The NVIDIA driver's own word, and why nothing can be computed on a GPU where it cannot."""
    found = list_gpus()
    return {
        "devices": [
            {
                "name": gpu.name,
                "total_bytes": gpu.total_bytes,
                "free_bytes": gpu.free_bytes,
                "total": format_bytes(gpu.total_bytes),
                "free": format_bytes(gpu.free_bytes),
            }
            for gpu in found
        ],
        "driver": found[0].driver if found else None,
        "reason": no_cuda(),
    }


def _memory(settings: Settings) -> dict[str, Any]:
    """Main memory, and room on the device the media root is on."""
    ground = settings.media_dir.absolute()
    while not ground.exists():
        ground = ground.parent
    page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    pages = os.sysconf("SC_PHYS_PAGES") if page else 0
    return {
        "ram_bytes": page * pages or None,
        "cores": os.cpu_count(),
        "media_free_bytes": shutil.disk_usage(ground).free,
        "vram_budget_bytes": settings.vram_budget,
    }


def _checkpoints(settings: Settings) -> list[dict[str, Any]]:
    from svd_local.engine.checkpoints import list_installed

    return [checkpoint.to_json() for checkpoint in list_installed(settings.models_dir)]


def _ffmpeg() -> dict[str, Any]:
    from svd_local.media import binary, ffmpeg

    try:
        return {"path": str(binary.executable()), "version": ffmpeg.version(), "reason": None}
    except MediaFailed as error:
        return {"path": None, "version": None, "reason": f"{error.message}. {error.hint}"}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found
