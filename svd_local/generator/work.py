"""One rung's work on one request, up to the keyframes."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from svd_local.request import ClipRequest
from svd_local.result import Attempt
from svd_local.tiers.base import Monitor, Plan

if TYPE_CHECKING:
    from PIL.Image import Image

    from svd_local.generator.delivery import Delivery
    from svd_local.generator.sources import Sources
    from svd_local.keyframe.types import Keyframe


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a clip is to be made from, and where it goes."""

    request: ClipRequest
    plan: Plan
    sources: Sources
    folder: Path
    before: tuple[Attempt, ...]
    """The attempts of the rungs above this one."""
    monitor: Monitor
    delivery: Delivery

    @property
    def paints(self) -> bool:
        """Whether its keyframe is painted by networks of ours, which is work for the GPU."""
        return self.sources.painter is not None

    def lettered(self, size: tuple[int, int]) -> tuple[Image | None, tuple[str, ...]]:
        """Title, caption and logo for a file of ``size``, and what there is to say of them."""
        from svd_local.keyframe import render_overlay
        from svd_local.keyframe.types import Overlays

        request = self.request
        return render_overlay(Overlays(request.title, request.caption, request.logo), size)

    def prepared(self) -> Work:
        """Keyframes and letters drawn, and leftovers of dead processes swept out of the folder.

        Raises:
            ImageRejected: a picture cannot be read.
            OutOfMemory, TierFailed: the painter failed.
        """
        from svd_local.keyframe import make_keyframes
        from svd_local.storage import sweep

        request, plan = self.request, self.plan
        self.monitor.report("keyframe")
        begun = time.monotonic()
        keyframes = make_keyframes(
            request, plan.size, pictures=plan.pictures, text2image=self.sources.painter
        )
        keyframe_s = time.monotonic() - begun
        letters, warnings = self.lettered(plan.output_size)
        sweep(self.folder)
        return Work(
            self.request,
            self.plan,
            self.sources,
            self.folder,
            self.before,
            self.monitor,
            self.delivery,
            keyframes,
            keyframe_s,
            letters,
            warnings,
        )


@dataclass(frozen=True, slots=True)
class Work(Beginning):
    """All of it that is ready before the tier begins."""

    keyframes: tuple[Keyframe, ...]
    keyframe_s: float
    letters: Image | None
    """Title, caption and logo, RGBA of the output's size; None where there are none."""
    letter_warnings: tuple[str, ...]

    def of_size(self, size: tuple[int, int]) -> Work:
        """The same for a file of ``size``, where only the frames tell it."""
        plan = dataclasses.replace(self.plan, output_size=size)
        letters, warnings = self.lettered(size)
        return dataclasses.replace(self, plan=plan, letters=letters, letter_warnings=warnings)
