"""The story of one clip."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from svd_local.errors import InvalidRequest, TierBusy
from svd_local.generator.delivery import Delivery
from svd_local.generator.finding import find
from svd_local.generator.seeds import draw_seed
from svd_local.generator.sources import gather
from svd_local.generator.turns import Place, Room, Turns, Underway
from svd_local.generator.work import Beginning
from svd_local.ladder import Breakers, climb
from svd_local.request import ClipRequest
from svd_local.result import Attempt, Clip, ProgressCallback
from svd_local.settings import Settings
from svd_local.tiers.base import Job, Monitor, Tier
from svd_local.tiers.spent import Spent

if TYPE_CHECKING:
    from svd_local.catalog import Catalog

_LAST_RESORT = "placeholder"
_BY_NAME_ONLY = "fake"
_HERE = "here"
_ENCODERS = 2
"""Clips that may be encoded at once. Where the encoders are slower than the GPU for longer than one
clip's frames can wait, the GPU waits for them: neither frames nor processes pile up."""
_NEW_CATALOG_BYTES = 1 << 20
"""SQLite's file with nothing in it, and what it keeps beside it while it writes: a third of that."""


class VideoGenerator:
    """Makes clips: words or a picture in, a published file and a catalog row out.

    Thread-safe. The machine makes the frames of one clip at a time, and callers are served in the order
    they came. What needs no GPU runs beside it: while one caller's clip is denoised, the next one's
    keyframe is prepared and the last one's frames are encoded and published. So a program that calls
    from two or three threads keeps the GPU busy. Frames that another machine makes are waited for
    beside this one's, one clip at a time for each service. Models stay loaded between clips until
    ``close``.

    Args:
        settings: the machine's; None reads the environment and ``.env``.
        tiers: the ladder, best first; None takes the standard one.

    Raises:
        InvalidRequest: a setting holds what it cannot mean.
    """

    def __init__(
        self, settings: Settings | None = None, *, tiers: Sequence[Tier] | None = None
    ) -> None:
        self.settings = Settings.load() if settings is None else settings
        if tiers is None:
            from svd_local.tiers.standard import standard_tiers

            tiers = standard_tiers(self.settings)
        self.tiers = tuple(tiers)
        self._here = Turns()
        self._elsewhere = {tier.id: Turns() for tier in self.tiers}
        self._breakers = Breakers(self.tiers)
        self._encoders = Room(_ENCODERS)
        self._underway = Underway()
        self._catalog: Catalog | None = None
        self._opening = threading.Lock()

    def generate(
        self,
        request: ClipRequest | None = None,
        *,
        progress: ProgressCallback | None = None,
        cancelled: Callable[[], bool] | None = None,
        delivery: Delivery | None = None,
        **fields: Any,
    ) -> Clip:
        """Make one clip, or find it in the catalog.

        Args:
            request: what the clip should be; or give its fields by keyword instead.
            progress: called now and then from the thread that makes the clip.
            cancelled: asked now and then; true stops the clip.
            delivery: how the clip is handed over, where that is special.
            **fields: the request's fields, where no ``request`` is given.

        Returns:
            The clip. Where ``kind`` is ``placeholder`` no video was made, and the file says why.

        Raises:
            InvalidRequest: the request means nothing; nothing was written.
            TierUnavailable: the named tier or checkpoint cannot be used; nothing was written.
            TierFailed, MediaFailed, StorageFailed: nothing was published.
            Cancelled: by ``cancelled`` or an exception of ``progress``.
        """
        asked = _one_request(request, fields)
        monitor = Monitor(progress, cancelled)
        with self._here.place() as place:
            return self._generate(asked, monitor, place, delivery or Delivery())

    async def agenerate(
        self,
        request: ClipRequest | None = None,
        *,
        progress: ProgressCallback | None = None,
        **fields: Any,
    ) -> Clip:
        """``generate`` for asyncio: runs in a thread; cancelling the task cancels the clip."""
        stop = threading.Event()
        call = functools.partial(
            self.generate, request, progress=progress, cancelled=stop.is_set, **fields
        )
        future = asyncio.get_running_loop().run_in_executor(None, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([future])
            future.exception()  # looked at, so that asyncio does not report it as lost
            raise

    def status(self, *, deep: bool = False) -> dict[str, Any]:
        """What this machine can do, as one JSON-able document; ``deep`` loads torch to look closer."""
        from svd_local.generator.report import status_report

        return status_report(self.settings, self.tiers, deep=deep)

    def self_test(self, *, progress: ProgressCallback | None = None) -> dict[str, Any]:
        """Make a small clip with every tier that can be tried here, and check the files."""
        from svd_local.generator.self_test import self_test_report

        return self_test_report(self.settings, self.tiers, progress=progress)

    def close(self) -> None:
        """Give back models, memory and connections."""
        for tier in self.tiers:
            tier.close()
        self._close_catalog()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _generate(
        self, request: ClipRequest, monitor: Monitor, place: Place, delivery: Delivery
    ) -> Clip:
        from svd_local.generator.finish import publish_placeholder
        from svd_local.storage import check_writable

        folder = request.out or self.settings.videos_dir
        check_writable(folder, field=None if request.out is None else "out")
        try:
            made = climb(
                self._rungs(request),
                lambda tier, before: self._serve(
                    tier, before, request, folder, monitor.for_tier(tier.id), place, delivery
                ),
                fall_through=request.open_to_others,
            )
        except TierBusy as busy:
            if request.tier == "auto" or not delivery.placeholders:
                raise
            return publish_placeholder(request, folder, busy.attempts, monitor)
        if made.value is None:
            if not delivery.placeholders:
                raise _busy(made.attempts)
            return publish_placeholder(request, folder, made.attempts, monitor)
        return dataclasses.replace(made.value, attempts=made.attempts, elapsed_s=monitor.elapsed_s)

    def _rungs(self, request: ClipRequest) -> tuple[Tier, ...]:
        """The tiers to ask: all but the fake one, or the one that was named."""
        if request.tier == "auto":
            return tuple(tier for tier in self.tiers if tier.id not in _BY_NAME_ONLY)
        if request.tier == _LAST_RESORT:
            return ()
        chosen = tuple(tier for tier in self.tiers if tier.id == request.tier)
        if not chosen:
            raise InvalidRequest(
                f"tier: this generator has no {request.tier!r}",
                hint=f"Name one of {', '.join(tier.id for tier in self.tiers)}.",
                field="tier",
            )
        return chosen

    def _serve(
        self,
        tier: Tier,
        before: tuple[Attempt, ...],
        request: ClipRequest,
        folder: Path,
        monitor: Monitor,
        place: Place,
        delivery: Delivery,
    ) -> Clip:
        """One rung: plan, look in the catalog, then make the clip."""
        begun = time.monotonic() - monitor.spent.waited_s
        with self._breakers.watching(tier, serves=False):
            plan = tier.plan(request, monitor)
        sources = gather(request, plan, self.settings, monitor)
        with ExitStack() as alone:
            if plan.parameters.get("seed", 0) is None:
                plan = plan.seeded(draw_seed())
            elif request.seed is not None and not request.no_cache:
                fingerprint = request.fingerprint(sources.provenance(plan))

                # The same clip, asked for twice at once, is made once and then found.
                def step_aside() -> None:
                    place.leave()
                    monitor.waits("the same clip is in the making")

                same = self._underway.alone(fingerprint, monitor.check, step_aside)
                with monitor.spent.waiting():
                    alone.enter_context(same)
                catalog = self._open_catalog()
                found = find(catalog, fingerprint, folder, delivery.stem, plan.corrections)
                if found is not None:
                    return found
                if delivery.before is not None:
                    delivery.before(fingerprint, plan.corrections)
            catalog = self._open_catalog()
            _ready(catalog)
            begin = Beginning(request, plan, sources, folder, before, monitor, delivery)
            return self._make(tier, begin, place, catalog, begun)

    def _make(
        self, tier: Tier, begin: Beginning, place: Place, catalog: Catalog, begun: float
    ) -> Clip:
        """Keyframes, then frames in the clip's turn, then the rest beside the next clip's.

        ``begun`` is when the rung was, on the monotonic clock, less what had been waited until then.
        """
        from svd_local.generator.finish import encoded

        plan, monitor = begin.plan, begin.monitor
        spent = monitor.spent
        wait = (monitor.check, monitor.waits)
        self._breakers.check(tier)
        with ExitStack() as beyond, ExitStack() as turn:
            if begin.paints:
                _await(place.turn(*wait), _HERE, spent, turn)
            work = begin.prepared()
            if plan.leaves_machine:
                turn.close()
                place.leave()
                _await(self._elsewhere[tier.id].take(*wait), tier.id, spent, turn)
            elif not begin.paints:
                _await(place.turn(*wait), _HERE, spent, turn)
            self._breakers.check(tier)  # again: others may have found it dead meanwhile
            gone_s = time.monotonic() - begun - spent.waited_s
            plan = dataclasses.replace(
                plan, spent_s=gone_s - (work.keyframe_s if begin.paints else 0.0)
            )
            with self._breakers.watching(tier):
                frames = tier.generate(Job(work.request, plan, work.keyframes, work.monitor))
            finishing = beyond.enter_context(encoded(work, frames, self._encoders))
            turn.close()
            return finishing.publish(catalog)

    def _open_catalog(self) -> Catalog:
        with self._opening:
            if self._catalog is None:
                from svd_local.catalog import Catalog

                self._catalog = Catalog(self.settings.database_url, self.settings.media_dir)
            return self._catalog

    def _close_catalog(self) -> None:
        with self._opening:
            if self._catalog is not None:
                self._catalog.close()
                self._catalog = None


def _ready(catalog: Catalog) -> None:
    """A catalog that cannot be written is found out before the GPU has worked for nothing.

    One that is not there yet is made with its first clip: a clip that fails leaves nothing behind.
    """
    from svd_local.storage import check_writable

    if catalog.folder_to_be is None:
        catalog.open()
    else:
        check_writable(catalog.folder_to_be, _NEW_CATALOG_BYTES)


def _await(wait: AbstractContextManager[None], where: str, spent: Spent, turn: ExitStack) -> None:
    """Wait for the turn ``where`` and hold it till the end of ``turn``, both noted as time of the clip's."""
    with spent.waiting():
        turn.enter_context(wait)
    turn.enter_context(spent.occupying(where))


def _busy(attempts: tuple[Attempt, ...]) -> TierBusy:
    """No rung served and all fell through: what helps, if anything, is time."""
    waits = [a.retry_after_s for a in attempts if a.retry_after_s is not None]
    reasons = "; ".join(f"{a.tier}: {a.reason}" for a in attempts)
    busy = TierBusy(
        f"no tier could make the clip: {reasons or 'a placeholder was asked for'}",
        hint="svd-local status says what each tier needs.",
        retry_after_s=min(waits, default=None),
    )
    busy.attempts = attempts
    return busy


def _one_request(request: ClipRequest | None, fields: dict[str, Any]) -> ClipRequest:
    if request is None:
        return ClipRequest(**fields)
    if fields:
        raise InvalidRequest(
            "both a request and fields of one were given",
            hint="Give a ClipRequest, or its fields by keyword.",
        )
    return request
