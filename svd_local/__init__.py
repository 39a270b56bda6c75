"""Short training-video clips with Stable Video Diffusion, in-process, on your own GPU.

The public names are resolved on first use, so that importing the package costs next to nothing and
never imports torch::

    import svd_local

    clip = svd_local.generate(image="photo.jpg", seed=7)
    print(clip.path, clip.tier)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svd_local.errors import (
        Cancelled,
        InvalidRequest,
        SvdLocalError,
        TierBusy,
        TierFailed,
        TierUnavailable,
    )
    from svd_local.generator import VideoGenerator, generate, status
    from svd_local.request import ClipRequest
    from svd_local.result import Attempt, Clip, Progress
    from svd_local.settings import Settings

__version__ = "0.1.0"

_HOMES = {
    "Attempt": "svd_local.result",
    "Cancelled": "svd_local.errors",
    "Clip": "svd_local.result",
    "ClipRequest": "svd_local.request",
    "InvalidRequest": "svd_local.errors",
    "Progress": "svd_local.result",
    "Settings": "svd_local.settings",
    "SvdLocalError": "svd_local.errors",
    "TierBusy": "svd_local.errors",
    "TierFailed": "svd_local.errors",
    "TierUnavailable": "svd_local.errors",
    "VideoGenerator": "svd_local.generator",
    "generate": "svd_local.generator",
    "status": "svd_local.generator",
}

__all__ = [
    "Attempt",
    "Cancelled",
    "Clip",
    "ClipRequest",
    "InvalidRequest",
    "Progress",
    "Settings",
    "SvdLocalError",
    "TierBusy",
    "TierFailed",
    "TierUnavailable",
    "VideoGenerator",
    "__version__",
    "generate",
    "status",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
