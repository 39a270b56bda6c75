"""What would make a clip here, and what it would take: asked of the tiers, without making any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from svd_local.batch.pace import Pace
from svd_local.errors import CheckpointUnavailable, InvalidRequest, SvdLocalError, TierBusy
from svd_local.request import ClipRequest
from svd_local.result import Kind, Memory
from svd_local.settings import Settings
from svd_local.tiers.base import Plan, Tier
from svd_local.tiers.local import LocalTier
from svd_local.tiers.standard import standard_tiers

_LAST_RESORT = "placeholder"
_MATTERS = (
    *("tier", "checkpoint", "engine", "device", "frames", "fps", "duration", "steps", "guidance"),
    *("size", "resolution", "quality", "speed", "cache_interval", "cache_depth", "vram_budget"),
    *("allow_approximate", "no_remote"),
)
"""Fields that decide who makes a clip and what it takes."""
_COARSE = ("tier", "checkpoint", "engine", "device", "speed", "vram_budget", "no_remote")
_MOST_KINDS = 300
"""Different kinds of clip asked about one by one; further ones are taken for a similar one."""
_BYTES_PER_PIXEL = {"fast": 0.02, "standard": 0.04, "high": 0.06}
"""Of a file, for every pixel of every frame: meant to be too much rather than too little. Animated
stills of clean pictures take a tenth of it; grain and water take all of it."""
_POSTER_BYTES = 250_000


@dataclass(frozen=True, slots=True)
class Outlook:
    """How one kind of clip would be made. What is not known is None."""

    tier: str | None
    kind: Kind | None = None
    checkpoint: str | None = None
    speed: str | None = None
    pace: Pace | None = None
    """How long such clips take here, as the catalog's medians have it."""
    bytes: int | None = None
    bytes_measured: bool = False
    """Whether ``bytes`` is the catalog's average; otherwise it is estimated, rather too high."""
    memory: Memory | None = None
    licence: str | None = None
    leaves_machine: bool = False
    passed_over: tuple[str, ...] = ()
    """The better tiers that do not serve, and why."""
    problem: SvdLocalError | None = None
    """Why such a clip cannot be made here."""


class Foresight:
    """Outlooks for requests. Nothing is loaded, fetched or written.

    Args:
        settings: the machine's.
        tiers: the ladder; None takes the standard one.
    """

    def __init__(self, settings: Settings, tiers: Sequence[Tier] | None = None) -> None:
        # With downloads allowed a plan would pull the checkpoint.
        self._may_pull = settings.allow_download
        still = settings.model_copy(update={"allow_download": False})
        self._tiers = tuple(standard_tiers(still) if tiers is None else tiers)
        self._groups = _groups(settings)
        self._known: dict[tuple[Any, ...], Outlook] = {}
        self._similar: dict[tuple[Any, ...], Outlook] = {}

    def of(self, request: ClipRequest) -> Outlook:
        """The outlook of ``request``; equal in all that matters, equal outlook."""
        exact = (*(getattr(request, name) for name in _MATTERS), request.image is None)
        found = self._known.get(exact)
        if found is not None:
            return found
        coarse = (*(getattr(request, name) for name in _COARSE), request.image is None)
        if len(self._known) >= _MOST_KINDS and coarse in self._similar:
            return self._similar[coarse]
        outlook = self._look(request)
        self._known[exact] = self._similar[coarse] = outlook
        return outlook

    def _look(self, request: ClipRequest) -> Outlook:
        """Climb the ladder as far as its plans."""
        if request.tier == _LAST_RESORT:
            error = InvalidRequest(
                "tier: a placeholder is no video",
                hint="Name another tier, or leave it out.",
                field="tier",
            )
            return Outlook(_LAST_RESORT, problem=error)
        passed: list[str] = []
        for tier in self._rungs(request):
            try:
                plan = tier.plan(request)
                return self._planned(tier, plan, request, tuple(passed))
            except SvdLocalError as error:
                why = f"{tier.id}: {error.message}"
                if self._may_pull and type(error) is CheckpointUnavailable:
                    return Outlook(
                        tier.id,
                        "generated",
                        request.checkpoint,
                        request.speed,
                        passed_over=(f"{error.message}: it is downloaded first",),
                    )
                if request.open_to_others and error.falls_through:
                    passed.append(why)
                elif isinstance(error, TierBusy):
                    return Outlook(tier.id, passed_over=(why,))
                else:
                    return Outlook(tier.id, problem=error)
        return Outlook(_LAST_RESORT, "placeholder", passed_over=tuple(passed))

    def _rungs(self, request: ClipRequest) -> Iterable[Tier]:
        if request.tier == "auto":
            return (tier for tier in self._tiers if tier.id != "fake")
        return (tier for tier in self._tiers if tier.id == request.tier)

    def _planned(
        self, tier: Tier, plan: Plan, request: ClipRequest, passed: tuple[str, ...]
    ) -> Outlook:
        memory = licence = None
        if isinstance(tier, LocalTier):
            memory = tier.foresee_memory(request)
            licence = tier.checkpoint(request).licence
        group = self._groups.get((plan.tier, plan.checkpoint, plan.speed))
        measured = group is not None and group["clips"] > 0
        return Outlook(
            tier=plan.tier,
            kind=plan.kind,
            checkpoint=plan.checkpoint,
            speed=plan.speed,
            pace=Pace.of(group) if group is not None and measured else None,
            bytes=round(group["bytes"] / group["clips"]) + _POSTER_BYTES
            if group is not None and measured
            else _estimated_bytes(plan, request.quality),
            bytes_measured=measured,
            memory=memory,
            licence=licence,
            leaves_machine=tier.availability(request).leaves_machine,
            passed_over=passed,
        )


def _groups(settings: Settings) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """The catalog's figures by tier, checkpoint and speed."""
    from svd_local.catalog import Catalog

    with Catalog(settings.database_url, settings.media_dir) as catalog:
        groups = catalog.stats()["groups"]
    return {(one["tier"], one["checkpoint"], one["speed"]): one for one in groups}


def _estimated_bytes(plan: Plan, quality: str) -> int:
    width, height = plan.output_size
    frames = plan.parameters.get("frames") or 25
    return round(frames * width * height * _BYTES_PER_PIXEL[quality]) + _POSTER_BYTES
