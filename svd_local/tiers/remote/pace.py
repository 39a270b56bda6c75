"""How often a service is asked: no more than it allows, over all clips, threads and processes.

What a refusal teaches:

- A pause: as long as the service asks, ten minutes at most. Kept once.
- A gap between two requests. Where the answer carries the policy (so many in so much time), that one.
  Where it says when to come back, what was let through since the last refusal tells it: one request
  in that time, then the time asked for; n of them, then the time from the first of them to the moment
  named, divided by n, if that is less; none, then no gap: the pause was not over our own requests. Where it says
  nothing, half a second, and twice the gap at each refusal, since nothing less was enough.
- Whether it counts questions: from the first question that is refused, they keep to the gap too.

How it is unlearned: by the service's word, where good answers say that more is allowed; else by time.
A gap is kept whole for a minute, or for as long as the service is known to throttle if that is longer
(a quarter of an hour at most), then halved, and so on. So one refusal without a sequel costs little,
and a service that means it refuses one request after 1, 2, 4 and 8 minutes and then every quarter of
an hour: without its word there is no other way to find out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from svd_local.errors import TierBusy
from svd_local.tiers.remote.call import Call
from svd_local.tiers.remote.refusals import allowed_interval, asked_wait, left_interval

LONGEST_PAUSE_S = 600.0
_LONGEST_GAP_S = 10.0
"""A longer time is taken for the end of a window, not for a gap."""
_FIRST_GAP_S = 0.5
"""Learned from a first refusal that names no time."""
_LEAST_GAP_S = 0.02
"""A gap that was halved to less is none."""
_MARGIN = 1.05
_ON_THE_WAY_S = 0.05
"""What requests may differ in on their way: the service counts when they arrive."""
_KEPT_S = (60.0, 900.0)
_BESIDE = 4.0
"""Where questions count, one on the side is asked after so many gaps without a request."""
_LEAD_S = 1.0
"""So long before its turn a request may have its connection made."""
_LOCKED_S = 2.0
"""How long another process's lock is waited for; it is held for a read and a write."""


@dataclass(slots=True)
class _State:
    """Epoch seconds, since processes have no other clock in common."""

    next: float = 0.0
    """The earliest time for the next request."""
    interval: float = 0.0
    learned: float = 0.0
    """When the service last refused a request."""
    since: float = 0.0
    """When it first did; later refusals without a long peace between belong to the same spell."""
    kept: float = _KEPT_S[0]
    """How long the interval is kept whole."""
    asks: float = 0.0
    """1 where it counts questions, too."""
    count: float = 0.0
    """Requests counted since the last refusal."""
    begun: float = 0.0
    """When the first of those was sent."""
    written: float = 0.0

    def gap(self, now: float) -> float:
        """The interval, as far as it is still believed."""
        halved = 0.5 ** min(max(0.0, now - self.learned) // max(self.kept, 1.0), 60)
        gap = self.interval * halved
        return gap if gap >= _LEAST_GAP_S or halved == 1 else 0.0

    def over(self, now: float) -> bool:
        """Whether the service is at peace again: all that was learned is void."""
        return self.gap(now) == 0 and now - max(self.learned, self.next) >= self.kept

    def sent(self, at: float) -> None:
        if not self.count:
            self.begun = at
        self.count += 1


class Pace:
    """Spaces the requests of one service. Thread-safe.

    Args:
        interval_s: least seconds between two requests that start work.
        ledger: the file through which processes keep to one pace between them. It is made when a
            service first refuses a request: who is never throttled never sees it. Where it cannot be
            used, each process keeps its own pace. It may be deleted at any time.
        longest_s: most seconds of a pause that is asked for.
    """

    def __init__(
        self,
        interval_s: float = 0.0,
        ledger: Path | None = None,
        *,
        longest_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._lock = threading.Lock()
        self._least = interval_s
        self._ledger = ledger
        self._longest_s = longest_s
        self._state = _State()
        self._questions = _State()
        """Counts those the service does not."""

    def approach(self, call: Call, *, asks: bool = False) -> None:
        """Wait until it is time to make a connection for the next turn. Raises as ``turn``."""
        with self._shared() as state:
            now = time.time()
            ahead = 0.0 if asks and not state.asks else state.next - now
        _check(ahead, call)
        _pause(ahead - _LEAD_S, call)

    def turn(self, call: Call, *, asks: bool = False) -> float:
        """Wait until a request may be sent, and count it as sent.

        Args:
            call: is waited within.
            asks: whether it is a question, which starts no work.

        Returns:
            When it may be sent, for ``slow_down``.

        Raises:
            TierBusy: the turn comes after the call's end; nothing was counted.
            Over: the call was ended meanwhile.
        """
        with self._shared() as state:
            now = time.time()
            if asks and not state.asks:
                self._questions.sent(now)
                return now
            at = max(now, state.next)
            _check(at - now, call)
            state.next = at + max(state.gap(now), 0.0 if asks else self._least)
            state.sent(at)
        _pause(at - now, call)
        return at

    def spare(self) -> bool:
        """Whether a question on the side takes nothing from the requests that matter."""
        with self._shared() as state:
            now = time.time()
            return not state.asks or now >= state.next + (_BESIDE - 1) * state.gap(now)

    def slow_down(
        self, headers: Mapping[str, str], wait_s: float | None, *, sent: float, asks: bool = False
    ) -> None:
        """Learn from a refusal of a request sent at ``sent``: throttled, and asked to wait ``wait_s``."""
        wait = min(wait_s or 0.0, self._longest_s)
        with self._shared(throttled=True) as state:
            now = time.time()
            if asks and not state.asks:
                state.asks = 1.0
                if self._questions.count:
                    state.begun = min(self._questions.begun, state.begun or now)
                state.count += self._questions.count
            if sent >= state.learned:  # what was on its way at the last lesson teaches nothing more
                _learn(state, now, wait, allowed_interval(headers))
                self._questions = _State()
            pause = wait + _ON_THE_WAY_S if wait else state.gap(now)
            state.next = max(state.next, now + pause)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Learn from a good answer: that the quota is used up, before it is refused; or that more is
        allowed than was believed.
        """
        wait_s = asked_wait({"ratelimit": headers.get("ratelimit", "")})
        if wait_s:
            with self._shared(throttled=True) as state:
                pause = min(wait_s, self._longest_s) + _ON_THE_WAY_S
                state.next = max(state.next, time.time() + pause)
        told = left_interval(headers) if wait_s is None else None
        told = allowed_interval(headers) if told is None else told
        if told is not None:
            with self._shared() as state:
                state.interval = min(state.interval, told * _MARGIN + _ON_THE_WAY_S)

    @contextlib.contextmanager
    def _shared(self, *, throttled: bool = False) -> Iterator[_State]:
        """The state, alone with it: in this process, and in all where there is a ledger."""
        with self._lock, contextlib.ExitStack() as stack:
            path = self._ledger
            if path is not None and (throttled or path.exists()):
                if not _locked(path, stack):
                    path = None
                elif (found := _read(path, self._longest_s)) is not None:
                    self._state = found
            else:
                path = None
            if self._state.over(time.time()):
                self._state.asks = self._state.interval = 0.0
            before = dataclasses.replace(self._state)
            yield self._state
            if path is not None and self._state != before:
                self._state.written = time.time()
                with contextlib.suppress(OSError):
                    path.write_text(json.dumps(dataclasses.asdict(self._state)), encoding="utf-8")


def ledger_name(tier: str, *account: str) -> str:
    """The file name of one service's ledger, by what the service tells its callers apart by. Who reads
    it learns nothing of that.
    """
    digest = hashlib.sha256("\0".join(account).encode()).hexdigest()
    return f"{tier}-{digest[:12]}.json"


def _check(ahead: float, call: Call) -> None:
    if ahead >= call.remaining > 0:
        busy = TierBusy(
            "the service allows no further request before the deadline",
            hint="Try again later, or use another tier.",
            retry_after_s=round(ahead, 1),
        )
        busy.unasked = True
        raise busy


def _pause(seconds: float, call: Call) -> None:
    if seconds > 0:
        call.note = f"keeping to what the service allows, {seconds:.1f} s"
        call.pause(seconds)
        call.note = ""


def _learn(state: _State, now: float, wait: float, told: float | None) -> None:
    """Take a refusal in: see the module's own words."""
    known, through = state.gap(now), int(state.count) - 1
    if told is not None:
        gap = told * _MARGIN + _ON_THE_WAY_S
    elif wait:
        span = now - state.begun + wait
        own = 0.0 if through < 1 else wait if through == 1 else min(wait, span / through)
        own = own if own <= _LONGEST_GAP_S else 0.0
        gap = max(own * _MARGIN + _ON_THE_WAY_S if own else 0.0, known * 1.1)
    else:
        gap = min(max(2 * known, _FIRST_GAP_S * _MARGIN + _ON_THE_WAY_S), 2 * _LONGEST_GAP_S)
    if now - state.learned >= 2 * _KEPT_S[1]:
        state.since = now
    state.interval, state.learned = gap, now
    state.kept = min(max(now - state.since, _KEPT_S[0]), _KEPT_S[1])
    state.count = state.begun = 0.0


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


def _read(path: Path, longest_s: float) -> _State | None:
    """What another process left. None where it is no such file, or of a clock ahead of this one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        state = _State(**{field: float(found[field]) for field in _State.__slots__})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    now = time.time()
    state.next = min(state.next, now + longest_s)
    return state if state.written <= now + 1 else None
