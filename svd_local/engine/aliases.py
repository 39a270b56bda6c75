"""The published checkpoints that go by a short name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

TINY = "tiny-svd"
SYNTHETIC_PREFIX = "synthetic:"


@dataclass(frozen=True, slots=True)
class Published:
    """One checkpoint on the hub. ``bytes_fp16`` is what its fp16 files come to, rounded."""

    alias: str
    repo: str
    frames: int
    licence: str
    licence_url: str
    gated: bool = False
    bytes_fp16: int = 4_510_000_000


_LICENCE = "Stability AI terms, community or non-commercial: read them before any commercial use"

PUBLISHED: dict[str, Published] = {
    entry.alias: entry
    for entry in (
        Published(
            "svd",
            "stabilityai/stable-video-diffusion-img2vid",
            14,
            _LICENCE,
            "https://huggingface.co/stabilityai/stable-video-diffusion-img2vid/blob/main/LICENSE.md",
        ),
        Published(
            "svd-xt",
            "stabilityai/stable-video-diffusion-img2vid-xt",
            25,
            _LICENCE,
            "https://huggingface.co/stabilityai/stable-video-diffusion-img2vid-xt/blob/main/LICENSE.md",
        ),
        Published(
            "svd-xt-1.1",
            "stabilityai/stable-video-diffusion-img2vid-xt-1-1",
            25,
            _LICENCE,
            "https://huggingface.co/stabilityai/stable-video-diffusion-img2vid-xt-1-1/blob/main/LICENSE.md",
            gated=True,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class PublishedUNet:
    """A distilled UNet on the hub: one file that takes the place of the UNet of ``base``."""

    alias: str
    repo: str
    file: str
    base: str
    licence: str
    licence_url: str


PUBLISHED_UNETS: dict[str, PublishedUNet] = {
    entry.alias: entry
    for entry in (
        PublishedUNet(
            "animatelcm-svd-xt",
            "wangfuyun/AnimateLCM-SVD-xt",
            "AnimateLCM-SVD-xt.safetensors",
            "svd-xt",
            "tuned from svd-xt, whose Stability AI terms hold for it too: read both pages",
            "https://huggingface.co/wangfuyun/AnimateLCM-SVD-xt",
        ),
    )
}
DEFAULT_ORDER = ("svd-xt", "svd")
"""Which checkpoint is taken where none is named: the first that is installed."""

SYNTHETIC_FRAMES = {"synthetic:svd": 14, "synthetic:svd-xt": 25}
KNOWN_NAMES = (*PUBLISHED, *PUBLISHED_UNETS, TINY, *SYNTHETIC_FRAMES)


def by_repo(repo: str) -> Published | None:
    """The published checkpoint that lives in ``repo``."""
    return next((entry for entry in PUBLISHED.values() if entry.repo == repo), None)


def unet_of(name: str) -> PublishedUNet | None:
    """The published distilled UNet that goes by an alias, or lives in a repository, of this name."""
    entries = PUBLISHED_UNETS.values()
    return next((entry for entry in entries if name in (entry.alias, entry.repo)), None)


def suggestion(name: str) -> str:
    """A hint for a name nobody knows: what it may have meant, and what there is."""
    close = difflib.get_close_matches(name.lower(), KNOWN_NAMES, n=1)
    known = (
        f"Known names are {', '.join(KNOWN_NAMES)}; a folder, a .safetensors file or org/name of the "
        "hub works as well."
    )
    return f"Did you mean {close[0]}? {known}" if close else known
