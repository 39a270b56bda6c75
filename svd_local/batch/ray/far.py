"""One actor as the maker of a batch's lanes: the clip is made there, and published here."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from svd_local.batch.ray.values import Broke, Failed, Heard, Known, Made, Order, Outcome, order_of
from svd_local.catalog.jobs import WORKER_LOST, WORKER_LOST_HINT
from svd_local.errors import Cancelled, DeviceLost, StorageFailed
from svd_local.generator import Delivery, find, publish_parcel
from svd_local.request import ClipRequest
from svd_local.result import Clip, ProgressCallback
from svd_local.settings import Settings

if TYPE_CHECKING:
    from svd_local.catalog import Catalog

_LOOK_UP_S = 0.2
_CANCEL_PATIENCE_S = 30.0


class ActorLost(DeviceLost):
    """The actor, or its node, is gone with what it was making; another may take its place."""

    code = WORKER_LOST

    def __init__(self, why: str) -> None:
        super().__init__(f"its worker was lost: {why}", hint=WORKER_LOST_HINT)
        self.why = why


class Hand(Protocol):
    """An actor, called from here. Calls answer promises; ``ready`` waits for them, ``result`` fetches.

    Every method raises ``ActorLost`` where the actor is gone.
    """

    def place(self) -> str | None:
        """The node that it was given room on, as soon as its process runs there, whether it answers yet or
        not. None while it waits for room, or where that cannot be told; never raises.
        """

    def hello(self) -> Any: ...
    def ping(self) -> Any: ...
    def make(self, ticket: str, order: Order) -> Any: ...
    def hear(self, ticket: str) -> Any: ...
    def answer(self, ticket: str, known: bool) -> None: ...
    def cancel(self, ticket: str) -> None: ...
    def ready(self, promises: list[Any], timeout_s: float) -> list[Any]: ...
    def result(self, promise: Any) -> Any: ...

    def close(self) -> None:
        """Let it clear up, then end it; never raises."""

    def kill(self) -> None:
        """End it now, or before it has begun; never raises."""


class FarGenerator:
    """A ``lanes.Maker`` over one actor. Thread-safe: each lane has its own order underway.

    Args:
        hand: the actor.
        settings: this machine's.
        catalog: is asked for clips that were made before, and gets the rows.
        stopping: whether all that is underway shall be cancelled; may be asked at any time. A clip's
            own ``cancelled`` is not: asking it is a sign of life, and the actor's to give.
        ended: why the actor was ended from here, where it was.
    """

    def __init__(
        self,
        hand: Hand,
        settings: Settings,
        catalog: Catalog,
        stopping: Callable[[], bool] = lambda: False,
        ended: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._hand = hand
        self._settings = settings
        self._catalog = catalog
        self._stopping = stopping
        self._ended = ended

    @property
    def settings(self) -> Settings:
        return self._settings

    def generate(
        self,
        request: ClipRequest,
        *,
        progress: ProgressCallback,
        cancelled: Callable[[], bool],
        delivery: Delivery,
    ) -> Clip:
        """Have the clip made, or find it in the catalog; publish it here.

        Raises:
            ActorLost: the actor was lost before the clip was here.
            Cancelled: by ``cancelled``.
            StorageFailed: the clip could not be published.
            SvdLocalError: whatever making it raised there.
            RuntimeError: a bug was met there.
        """
        from svd_local.storage import check_writable

        folder = request.out or self._settings.videos_dir
        check_writable(folder, field=None if request.out is None else "out")
        try:
            outcome = self._outcome(order_of(request), progress, cancelled)
        except ActorLost as lost:
            raise ActorLost(self._ended() or lost.why) from lost
        if isinstance(outcome, Failed):
            raise outcome.error
        if isinstance(outcome, Broke):
            raise RuntimeError(outcome.error)
        if isinstance(outcome, Known):
            return self._found(outcome, request, delivery)
        if cancelled():  # asked for, or the job was lost, while it was on its way
            raise Cancelled("cancelled by the caller")
        return publish_parcel(outcome.parcel, request, folder, delivery, self._catalog)

    def _outcome(
        self, order: Order, progress: ProgressCallback, cancelled: Callable[[], bool]
    ) -> Outcome:
        """Order, listen, and wait for what comes of it."""
        hand, ticket = self._hand, uuid.uuid4().hex
        making, hearing = hand.make(ticket, order), hand.hear(ticket)
        give_up: float | None = None
        unwanted = False
        while True:
            ready = hand.ready([making, hearing], _LOOK_UP_S)
            if making in ready:
                outcome = hand.result(making)
                assert isinstance(outcome, (Made, Known, Failed, Broke))
                return outcome
            if hearing in ready:
                heard = hand.result(hearing)
                assert isinstance(heard, Heard)
                for sign in heard.progress:
                    progress(sign)
                unwanted = heard.alive and cancelled()
                if heard.question is not None:
                    hand.answer(ticket, self._knows(heard.question))
                hearing = hand.hear(ticket)
            if give_up is None and (unwanted or self._stopping()):
                hand.cancel(ticket)
                give_up = time.monotonic() + _CANCEL_PATIENCE_S
            if give_up is not None and time.monotonic() > give_up:
                raise Cancelled("cancelled by the caller; its worker did not answer in time")

    def _knows(self, fingerprint: str) -> bool:
        with suppress(StorageFailed):  # then it is made, and storing it will say so
            return self._catalog.find(fingerprint) is not None
        return False

    def _found(self, known: Known, request: ClipRequest, delivery: Delivery) -> Clip:
        folder = request.out or self._settings.videos_dir
        clip = find(self._catalog, known.fingerprint, folder, delivery.stem, known.corrections)
        if clip is None:
            raise StorageFailed(
                "the clip that was found in the catalog is gone again",
                hint="It is made anew with the next try.",
            )
        return clip
