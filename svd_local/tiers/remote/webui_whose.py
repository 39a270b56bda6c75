"""Whose job a web UI is at, and whether ours was whole.

``/interrupt`` stops whatever the server is at, so it is sent only where there is reason to know that
this is our job:

- The server says so (newer AUTOMATIC1111, Forge): it names the job it is at.
- Else it was idle a moment before our request left, and the first job it was at since is the one it is
  still at. SD.Next looks idle between the parts of one job, but records where jobs begin and end.

A job that another program's ``/interrupt`` cut is answered with status 200 and what there is of it,
and the next job in line forgets that anybody asked. What is left to tell it by is how far it was last
seen, and how fast.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from svd_local.tiers.remote.webui_api import Doing, History, WebUIApi

_FRESH_S = 0.5
"""How old the look at an idle server may be when our request leaves."""
_RISES = 2
"""So many times a job must have been seen further along before its speed is known."""
_WHOLE = 0.75
"""The share of its steps a job must have come to, by its own speed, when it is answered."""
_HOPELESS = 0.5
"""The share it cannot have come to though it went on at twice that speed, where it was cut for sure."""
_FEW_STEPS = 8
"""A count that is behind by a step or two says nothing sure of fewer."""
_JUST_BEGUN_S = 0.75
"""The server sends an answer after it has begun the next job, but not long after."""


@dataclass(frozen=True, slots=True)
class Before:
    """A server that names no jobs, just before our request left."""

    at: float
    """On the monotonic clock."""
    idle: bool
    history: History | None
    """SD.Next's, where it was looked up."""

    @classmethod
    def seen(cls, api: WebUIApi, doing: Doing, *, sdnext: bool) -> Before:
        """Raises as the questions do."""
        idle = doing.idle
        history = api.history() if sdnext and idle else None
        if history is not None:
            idle = not history.running
        return cls(time.monotonic(), idle, history)


@dataclass(frozen=True, slots=True)
class Look:
    """What a server was at, and when it was asked."""

    at: float
    doing: Doing


def is_ours(
    api: WebUIApi,
    task: str,
    sent: float,
    before: Before | None,
    looks: Sequence[Look],
    *,
    sdnext: bool,
) -> bool:
    """Whether the server is at our job, beyond doubt but for another request that left in the same
    moment. Asks it.

    Args:
        task: the name our job was given.
        sent: when it was sent.
        before: what is known of the time before.
        looks: what the server was seen at since.
        sdnext: whether it is SD.Next.

    Raises:
        SvdLocalError: it does not say.
    """
    now = api.doing()
    if now.tells:
        return now.task == task
    if before is None or not before.idle or not 0 <= sent - before.at <= _FRESH_S:
        return False
    if sdnext:
        return before.history is not None and api.history().only_one_since(before.history)
    runs = {look.doing.run for look in looks if look.at >= sent and not look.doing.idle}
    return not now.idle and runs <= {now.run}


@dataclass(frozen=True, slots=True)
class Cut:
    """A job that was answered long before its steps can have been done."""

    seen: Doing
    """How far it was last seen."""
    sure: bool
    """Whether there is no doubt; else it looks so, and a picture that is whole is too good to lose."""


def cut_short(looks: Sequence[Look], task: str, answered: float) -> Cut | None:
    """Whether our job was cut, by how far it was seen; None where it looks whole, or was not seen often
    enough. A server counts a step when it is done, or tells of it when it begins.
    """
    if any(look.doing.tells for look in looks):
        runs = [[look for look in looks if look.doing.task == task]]
        ends = [answered]
    else:
        runs = _runs(looks)
        ends = [*(run[0].at for run in runs[1:]), answered]
        if len(runs) > 1 and answered - runs[-1][0].at <= _JUST_BEGUN_S:
            del runs[-1], ends[-1]
    if not runs:
        return None
    run, end = runs[-1], ends[-1]
    steps = [
        ((later.doing.done - sooner.doing.done), later.at - sooner.at)
        for sooner, later in pairwise(run)
    ]
    rises = [done / seconds for done, seconds in steps if done > 0 and seconds > 0]
    if len(rises) < _RISES:
        return None
    last = run[-1].doing
    more = max(rises) * (end - run[-1].at)
    if last.done + 1 + more >= _WHOLE * last.total:
        return None
    hopeless = last.done + 2 + 2 * more < _HOPELESS * last.total
    return Cut(last, sure=hopeless and last.total >= _FEW_STEPS)


def _runs(looks: Sequence[Look]) -> list[list[Look]]:
    """The looks, apart where another job, or another part of it, has begun."""
    runs: list[list[Look]] = []
    for look in looks:
        before = runs[-1][-1].doing if runs else None
        now = look.doing
        if (
            before is None
            or now.done < before.done
            or (now.total, now.run) != (before.total, before.run)
        ):
            runs.append([])
        runs[-1].append(look)
    return runs
