"""Actors in this process, and a cluster of them that can lose some: what ``batch.ray`` is without Ray."""

from __future__ import annotations

import concurrent.futures as futures
import threading
from collections.abc import Callable, Iterable
from typing import Any

from svd_local.batch.ray.actor import Actor
from svd_local.batch.ray.cluster import Places
from svd_local.batch.ray.far import ActorLost
from svd_local.batch.ray.values import House, Made, Order


class NearHand:
    """An ``Actor`` called by threads. ``lose`` is its sudden death."""

    def __init__(self, make_actor: Callable[[], Actor]) -> None:
        self._pool = futures.ThreadPoolExecutor(16)
        self._lost = threading.Event()
        self._actor = self._pool.submit(make_actor)
        self.cancelled: list[str] = []
        self.closed = False
        self.spoil: Callable[[Any], Any] = lambda answer: answer
        """What becomes of an answer of ``make`` on its way."""
        self.node: str | None = "10.0.0.2"
        """Where it has its place; None: it waits for one."""

    def place(self) -> str | None:
        return self.node

    def hello(self) -> Any:
        return self._call("hello")

    def ping(self) -> Any:
        return self._call("ping")

    def make(self, ticket: str, order: Order) -> Any:
        return self._call("make", ticket, order)

    def hear(self, ticket: str) -> Any:
        return self._call("hear", ticket)

    def answer(self, ticket: str, known: bool) -> None:
        self._call("answer", ticket, known)

    def cancel(self, ticket: str) -> None:
        self.cancelled.append(ticket)
        self._call("cancel", ticket)

    def ready(self, promises: list[Any], timeout_s: float) -> list[Any]:
        if self._lost.is_set():
            return promises[:1]
        return list(futures.wait(promises, timeout_s, futures.FIRST_COMPLETED).done)

    def result(self, promise: Any) -> Any:
        self._require()
        answer = promise.result()
        return self.spoil(answer) if isinstance(answer, Made) else answer

    def lose(self) -> None:
        self._lost.set()

    def close(self) -> None:
        self._actor.result().close()
        self.closed = True
        self._pool.shutdown(wait=False)

    def kill(self) -> None:
        self.lose()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _require(self) -> None:
        if self._lost.is_set():
            raise ActorLost("it was killed")

    def _call(self, method: str, *args: Any) -> Any:
        self._require()
        return self._pool.submit(lambda: getattr(self._actor.result(), method)(*args))


class NearCluster:
    """Places for so many actors. ``makers`` make one after the other, the last of them all the rest."""

    def __init__(self, count: int, makers: Iterable[Callable[[House], Actor]]) -> None:
        self.count = count
        self.hired: list[NearHand] = []
        self.at: dict[str, NearHand] = {}
        """The last one hired by each seat, by the seat's thread."""
        self._makers = list(makers)
        self.without_room: list[Callable[[House], Actor]] = []
        """Those of ``makers`` whose actors wait for a place."""

    def places(self, workers: int | None = None) -> Places:
        return Places(self.count if workers is None else workers, False, 1)

    def hire(self, house: House, places: Places, lanes: int) -> NearHand:
        make = self._makers.pop(0) if len(self._makers) > 1 else self._makers[0]
        hand = NearHand(lambda: make(house))
        if make in self.without_room:
            hand.node = None
        self.hired.append(hand)
        self.at[threading.current_thread().name] = hand
        return hand
