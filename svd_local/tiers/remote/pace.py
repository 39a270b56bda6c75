"""How often a service is asked: no more than it allows, over all clips, threads and processes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from svd_local.errors import TierBusy
from svd_local.tiers.remote.call import Call
from svd_local.tiers.remote.refusals import allowed_interval, asked_wait

_AN_INTERVAL_S = 10.0
"""A ``Retry-After`` up to this is taken for the time between two requests; a longer one for the end of
a window, after which requests may be as frequent as before."""
_MARGIN = 1.05
_ON_THE_WAY_S = 0.03
"""What requests may differ in on their way: the service counts when they arrive."""
_BELIEVED_S = 900.0
"""How long an interval is kept that no answer confirmed again: quotas change."""
_LOCKED_S = 2.0
"""How long another process's lock is waited for; it is held for a read and a write."""


@dataclass(slots=True)
class _State:
    """Epoch seconds, since processes have no other clock in common."""

    next: float = 0.0
    """The earliest time for the next request."""
    interval: float = 0.0
    learned: float = 0.0
    """When the service last said so."""
    written: float = 0.0


class Pace:
    """Spaces the requests that start work. Thread-safe; one per service.

    Args:
        interval_s: least seconds between two requests; grows when the service says that it wants more.
        ledger: the file through which processes keep to one pace between them. It is made when a
            service first asks for one: who is never throttled never sees it. Where it cannot be
            used, each process keeps its own pace.
    """

    def __init__(self, interval_s: float = 0.0, ledger: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._least = interval_s
        self._ledger = ledger
        self._state = _State()

    def turn(self, call: Call) -> None:
        """Wait until a request may be sent, and count it as sent.

        Raises:
            TierBusy: the turn comes after the call's end; nothing was counted.
            Over: the call was ended meanwhile.
        """
        with self._shared() as state:
            now = time.time()
            at = max(now, state.next)
            if at - now >= call.remaining:
                raise TierBusy(
                    "the service allows no further request before the deadline",
                    hint="Try again later, or use another tier.",
                    retry_after_s=round(at - now, 1),
                )
            state.next = at + self._interval(state, now)
        if at > now:
            call.note = f"keeping to what the service allows, {at - now:.1f} s"
            call.pause(at - now)
            call.note = ""

    def slow_down(self, headers: Mapping[str, str], wait_s: float | None) -> None:
        """Learn from a refusal: throttled, and asked to wait ``wait_s``."""
        interval = allowed_interval(headers)
        if interval is None and wait_s is not None and wait_s <= _AN_INTERVAL_S:
            interval = wait_s
        with self._shared(throttled=True) as state:
            now = time.time()
            if interval is not None:
                slower = interval * _MARGIN + _ON_THE_WAY_S
                state.interval, state.learned = max(self._interval(state, now), slower), now
            state.next = max(state.next, now + (wait_s or self._interval(state, now)))

    def heed(self, headers: Mapping[str, str]) -> None:
        """Learn from a good answer that says the quota is used up, before it is refused."""
        wait_s = asked_wait({"ratelimit": headers.get("ratelimit", "")})
        if wait_s:
            with self._shared(throttled=True) as state:
                state.next = max(state.next, time.time() + wait_s + _ON_THE_WAY_S)

    def _interval(self, state: _State, now: float) -> float:
        known = state.interval if now - state.learned < _BELIEVED_S else 0.0
        return max(self._least, known)

    @contextlib.contextmanager
    def _shared(self, *, throttled: bool = False) -> Iterator[_State]:
        """The state, alone with it: in this process, and in all where there is a ledger."""
        with self._lock, contextlib.ExitStack() as stack:
            path = self._ledger
            if path is not None and (throttled or path.exists()):
                if not _locked(path, stack):
                    path = None
                elif (found := _read(path)) is not None:
                    self._state = found
            else:
                path = None
            yield self._state
            if path is not None:
                self._state.written = time.time()
                with contextlib.suppress(OSError):
                    path.write_text(json.dumps(dataclasses.asdict(self._state)), encoding="utf-8")


def _locked(path: Path, stack: contextlib.ExitStack) -> bool:
    """Hold ``path``'s lock until ``stack`` ends; False where that cannot be had."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"), timeout=_LOCKED_S)
        stack.enter_context(lock.acquire(poll_interval=0.005))
    except (OSError, Timeout, NotImplementedError):
        return False
    return True


def _read(path: Path) -> _State | None:
    """What another process left. None where it is no such file, or of a clock ahead of this one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        state = _State(**{field: float(found[field]) for field in _State.__slots__})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return state if state.written <= time.time() + 1 else None
