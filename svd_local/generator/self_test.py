"""The self-test: a small clip by every tier that can be tried here, each file checked."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svd_local.errors import SvdLocalError
from svd_local.generator.story import VideoGenerator
from svd_local.request import ClipRequest
from svd_local.result import ProgressCallback
from svd_local.settings import Settings
from svd_local.tiers.base import Tier

_WORDS = "A short self-test: learning together at work"


def self_test_report(
    settings: Settings, tiers: Sequence[Tier], *, progress: ProgressCallback | None
) -> dict[str, Any]:
    """Try every tier in a folder of its own that is removed again; the user's catalog is not touched.

    A tier whose use would send something away is not tried: a self-test costs nobody anything. The
    placeholder is tried too, and does not count: ``success`` needs one tier above it that made a
    file which decodes to what was asked for. ``warnings`` say where the user's own clips would fail
    all the same: the folder they would be stored in is tried out.
    """
    outcomes: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="svd-local-self-test-") as folder:
        own = settings.model_copy(update={"media_dir": Path(folder), "database_url": None})
        generator = VideoGenerator(own, tiers=tiers)
        try:
            for name in (*(tier.id for tier in tiers), "placeholder"):
                outcomes.append(_try(generator, tiers, name, progress))
        finally:
            generator._close_catalog()
    videos = [outcome for outcome in outcomes if outcome["outcome"] == "ok"]
    return {
        "success": any(outcome["video"] for outcome in videos),
        "tiers": outcomes,
        "warnings": _storing(settings.videos_dir),
    }


def _storing(folder: Path) -> list[str]:
    """What keeps clips from being stored in ``folder``."""
    from svd_local.storage import check_writable

    try:
        check_writable(folder)
    except SvdLocalError as error:
        return [f"clips cannot be stored: {error.message}. {error.hint}"]
    return []


def _try(
    generator: VideoGenerator, tiers: Sequence[Tier], name: str, progress: ProgressCallback | None
) -> dict[str, Any]:
    started = time.monotonic()

    def outcome(
        what: str, detail: str, *, video: bool = False, code: str | None = None
    ) -> dict[str, Any]:
        return {
            "tier": name,
            "outcome": what,
            "code": code,
            "detail": detail,
            "video": video,
            "elapsed_s": round(time.monotonic() - started, 3),
        }

    request = ClipRequest(
        prompt=_WORDS, tier=name, frames=14, steps=4, duration=1.0, no_cache=True, seed=1
    )
    if name == "placeholder":
        placeholder = generator.generate(request)
        return outcome("ok", f"{placeholder.path.name} written, which is no video")
    tier = next(tier for tier in tiers if tier.id == name)
    here = tier.availability(request)
    if not here.available:
        detail = ". ".join(part for part in (here.reason, here.hint) if part)
        return outcome("unavailable", detail, code="tier-unavailable")
    if here.leaves_machine:
        return outcome("skipped", "it is set up, but trying it would send a picture away")
    try:
        clip = generator.generate(request, progress=progress)
    except SvdLocalError as error:
        return outcome("failed", f"{error.message}. {error.hint}", code=error.code)
    if not clip.is_video:
        return outcome("busy", clip.attempts[-1].reason or "", code=clip.attempts[-1].code)
    detail = f"{clip.frames} frames of {clip.width}x{clip.height} at {clip.fps:g} fps decoded"
    return outcome("ok", detail, video=True)
