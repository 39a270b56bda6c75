"""What runs on a node: a ``VideoGenerator`` of its own, that makes what is ordered and hands it over.

Its media root is a temporary folder. It knows no catalog but the empty one in there, no output folder,
and no picture but those that come with the order. Ray calls its methods from several threads: those of
``make`` for as long as a clip takes, the others beside them.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from svd_local.batch.ray.home import Home
from svd_local.batch.ray.values import (
    Broke,
    Failed,
    Heard,
    Hello,
    House,
    Known,
    Made,
    Order,
    Outcome,
)
from svd_local.errors import Cancelled, DeviceLost, InvalidRequest, SvdLocalError, TierUnavailable
from svd_local.generator import Delivery, VideoGenerator, pack
from svd_local.request import ClipRequest
from svd_local.result import Correction, Progress
from svd_local.settings import Settings
from svd_local.tiers.base import Tier
from svd_local.tiers.gpus import Gpu, list_gpus

_LOG = logging.getLogger(__name__)
_LISTEN_S = 1.0
"""How long ``hear`` waits for something to tell."""
_GATHER_S = 0.1
"""Signs of life that come closer together are told at once."""
_LAST_WORDS_S = 10.0
"""What the driver may take to fetch the news of a lost GPU before the process ends."""
DEVICE_LOST = 75
_NAMED_BY = "SVD_LOCAL_MODELS_DIR"


class Actor:
    """Makes clips on the node it was placed on; ``hello`` says where it cannot."""

    def __init__(
        self, house: House, make_generator: Callable[[Settings], VideoGenerator] = VideoGenerator
    ) -> None:
        self._gpu = house.gpu
        self._underway: dict[str, _Underway] = {}
        self._home = Home()
        self._generator: VideoGenerator | None = None
        self._unfit = _other_version(house.version)
        if self._unfit is None:
            try:
                self._generator = make_generator(_settings(house, self._home.folder))
                self._unfit = self._why_unfit(house.sorts)
            except InvalidRequest as error:
                self._unfit = f"{error.message}. {error.hint}"

    def hello(self) -> Hello:
        """Who answers, and whether it is of use.

        Raises:
            DeviceLost: its GPU does not answer; another process may fare better.
        """
        why = _no_answer() if self._gpu and self._unfit is None else None
        if why is not None:
            raise DeviceLost(f"the GPU cannot be used: {why}", hint="Look at nvidia-smi and dmesg.")
        return Hello(_node(), os.getpid(), _log_path(), _own_gpu(self._gpu), self._unfit)

    def ping(self) -> None:
        """A sign of life, that leaves the GPU alone."""

    def make(self, ticket: str, order: Order) -> Outcome:
        """Make a clip; ``ticket`` is what ``hear``, ``answer`` and ``cancel`` are to name it by.

        After a lost GPU the process ends by itself: it would answer every order with an error.
        """
        underway = self._underway[ticket] = _Underway()
        try:
            return self._make(ticket, order, underway)
        except _Known as known:
            return Known(known.fingerprint, known.corrections)
        except SvdLocalError as error:
            if isinstance(error, DeviceLost):
                _leave_soon()
            return Failed(error)
        except Exception as error:  # noqa: BLE001 - told, and logged whole on the node
            _LOG.exception("a clip met a bug")
            return Broke(f"{type(error).__name__}: {error}")
        finally:
            underway.over()
            del self._underway[ticket]

    def hear(self, ticket: str) -> Heard:
        """What happened to an order since the last time; waits a moment where nothing has."""
        underway = self._underway.get(ticket)
        if underway is None:
            time.sleep(_GATHER_S)  # not begun yet, or over
            return Heard()
        return underway.hear()

    def answer(self, ticket: str, known: bool) -> None:
        """Answer the question that ``hear`` brought."""
        underway = self._underway.get(ticket)
        if underway is not None:
            underway.answer(known)

    def cancel(self, ticket: str) -> None:
        """Stop an order; ``make`` then answers ``Cancelled``."""
        underway = self._underway.get(ticket)
        if underway is not None:
            underway.cancel()

    def close(self) -> None:
        """Give back models and temporary files."""
        if self._generator is not None:
            self._generator.close()
        self._home.close()

    def _make(self, ticket: str, order: Order, underway: _Underway) -> Outcome:
        assert self._generator is not None, "nobody orders of who is of no use"
        out = self._home.folder / "orders" / ticket
        out.mkdir(parents=True)
        try:
            request = ClipRequest(**_placed(order.fields, out), out=out)
            clip = self._generator.generate(
                request,
                progress=underway.tell,
                cancelled=underway.unwanted,
                delivery=Delivery(before=underway.ask, placeholders=False),
            )
            return Made(pack(clip))
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def _why_unfit(self, sorts: tuple[Mapping[str, Any], ...]) -> str | None:
        """Why none of ``sorts`` can be made here; None where one can.

        A node that lacks the checkpoint would fail every clip, or make stills of them, and be quick
        about it: it would take most of a batch.
        """
        reasons = [self._why_not(sort) for sort in sorts]
        return next(iter(reasons)) if reasons and None not in reasons else None

    def _why_not(self, sort: Mapping[str, Any]) -> str | None:
        try:
            request = ClipRequest(prompt="a clip", **sort)
            tier = self._expected(request)
            here = None if tier is None else tier.availability(request)
        except InvalidRequest:
            return None  # the clip's own fault, which it will be told
        except TierUnavailable as error:
            return f"{error.message}. {error.hint}".strip()
        return None if here is None or here.available else f"{here.reason}. {here.hint}".strip()

    def _expected(self, request: ClipRequest) -> Tier | None:
        """The tier that is meant: the named one, or, where the machine can compute, its own."""
        computes = self._gpu or request.device == "cpu"
        named = request.tier if request.tier != "auto" else "local" if computes else None
        tiers = () if self._generator is None else self._generator.tiers
        return next((tier for tier in tiers if tier.id == named), None)


class _Known(Exception):
    """Ends the making of a clip that the driver has."""

    def __init__(self, fingerprint: str, corrections: tuple[Correction, ...]) -> None:
        super().__init__(fingerprint)
        self.fingerprint = fingerprint
        self.corrections = corrections


class _Underway:
    """One order in the making: news for whoever hears, answers for who makes it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._news: list[Progress] = []
        self._question: str | None = None
        self._answer: bool | None = None
        self._over = False
        self._alive = False
        self.cancelled = False

    def unwanted(self) -> bool:
        """Whether it was cancelled; that this is asked is a sign of life."""
        self._alive = True
        return self.cancelled

    def tell(self, progress: Progress) -> None:
        """Keep it for ``hear``: the latest of each stage."""
        with self._changed:
            self._alive = True
            if self._news and self._news[-1].stage == progress.stage:
                self._news[-1] = progress
            else:
                self._news.append(progress)
            self._changed.notify_all()

    def hear(self) -> Heard:
        with self._changed:
            self._changed.wait_for(self._something, _LISTEN_S)
            if not (self._question or self._over):
                self._changed.wait_for(lambda: self._question or self._over, _GATHER_S)
            news, self._news = tuple(self._news), []
            question, self._question = self._question, None
            alive, self._alive = self._alive, False
            return Heard(news, question, alive)

    def _something(self) -> bool:
        return bool(self._news or self._question or self._over)

    def ask(self, fingerprint: str, corrections: tuple[Correction, ...]) -> None:
        """Ask the driver whether it has the clip; raises ``_Known`` where it does."""
        with self._changed:
            self._question, self._answer = fingerprint, None
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answer is not None or self.cancelled)
            if self.cancelled:
                raise Cancelled("cancelled by the caller")
            if self._answer:
                raise _Known(fingerprint, corrections)

    def answer(self, known: bool) -> None:
        with self._changed:
            self._answer = known
            self._changed.notify_all()

    def cancel(self) -> None:
        with self._changed:
            self.cancelled = True
            self._changed.notify_all()

    def over(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()


def _other_version(version: str) -> str | None:
    from svd_local import __version__

    if version == __version__:
        return None
    return (
        f"svd_local is {__version__} there, and {version} where the batch was started. "
        "Install the same version on every node."
    )


def _settings(house: House, media_dir: Path) -> Settings:
    """The driver's settings with the node's own in their place."""
    overrides = dict(house.settings)
    if not os.environ.get(_NAMED_BY) and house.models_dir.is_dir():
        overrides["models_dir"] = house.models_dir
    return Settings.load(**overrides, media_dir=media_dir, database_url=None)


def _placed(fields: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The fields of an order, the logo as a file: that is how a request takes it."""
    fields = dict(fields)
    if "logo" in fields:
        logo = folder / "logo"
        logo.write_bytes(fields["logo"])
        fields["logo"] = logo
    return fields


def _leave_soon() -> None:
    """End the process, once the driver has had time to hear why.

    Without clearing up: what is on a broken GPU would abort the interpreter while it is.
    """
    timer = threading.Timer(_LAST_WORDS_S, os._exit, (DEVICE_LOST,))
    timer.daemon = True
    timer.start()


def _no_answer() -> str | None:
    from svd_local.engine.context import why_lost

    return why_lost()


def _own_gpu(gpu: bool) -> Gpu | None:
    return next(iter(list_gpus()), None) if gpu else None


def _node() -> str:
    from svd_local.batch.ray.cluster import own_node

    return own_node()


def _log_path() -> Path:
    """Where this process's standard error goes."""
    with suppress(OSError):
        return Path("/proc/self/fd/2").readlink()
    return Path("/tmp/ray/session_latest/logs")  # noqa: S108 - Ray's own, unless told otherwise
