"""What a clip is made from, told apart by content: its pictures, its logo, its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svd_local.errors import CheckpointUnavailable
from svd_local.request import ClipRequest
from svd_local.settings import Settings
from svd_local.tiers.base import Monitor, Plan

if TYPE_CHECKING:
    from PIL.Image import Image

Painter = Callable[[str, tuple[int, int]], "Image"]
"""Words and (width, height) in, a picture out."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The digests of everything the keyframes are made from, and the painter where words are painted."""

    digests: Mapping[str, Any]
    painter: Painter | None = None
    warnings: tuple[str, ...] = ()

    def provenance(self, plan: Plan, ran: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Everything beside the request's own words that changes the pixels; what a fingerprint is of.

        ``ran`` overrides the plan where it turned out differently.
        """
        ran = ran or {}
        return {
            "sources": dict(self.digests),
            "tier": plan.tier,
            "parameters": {name: ran.get(name, v) for name, v in plan.parameters.items()},
            "output_size": list(plan.output_size),
            **plan.fingerprint,
            **ran,
        }


def gather(request: ClipRequest, plan: Plan, settings: Settings, monitor: Monitor) -> Sources:
    """Read and digest what ``plan`` takes from ``request``.

    Raises:
        ImageRejected: a picture cannot be read.
    """
    from svd_local.keyframe import source_digests

    digests = source_digests(request, pictures=plan.pictures)
    if request.image is not None or settings.text2image is None:
        return Sources(digests)
    from svd_local.engine.text2image import find, render

    try:
        model = find(
            settings.text2image,
            models_dir=settings.models_dir,
            allow_download=settings.allow_download,
            token=settings.hub_token,
            on_progress=monitor.downloading,
        )
    except CheckpointUnavailable as error:
        warning = f"the keyframe is an illustration: {error.message}. {error.hint}"
        return Sources(digests, warnings=(warning,))
    seed = plan.parameters.get("seed") or 0

    def paint(words: str, size: tuple[int, int]) -> Image:
        monitor.report("keyframe", note=f"painting with {model.name}")
        return render(model, words, size, seed=seed)

    return Sources({**digests, "text2image": model.revision}, paint)
