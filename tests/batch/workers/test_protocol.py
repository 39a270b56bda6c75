from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr
from servers.values import CLIP, JOB, NOW

from svd_local.batch import events
from svd_local.batch.options import BatchOptions
from svd_local.batch.workers.protocol import (
    Alive,
    Failed,
    Hello,
    Order,
    from_line,
    settings_document,
    to_line,
)
from svd_local.catalog.jobs import Batch, Enrolment, Reason
from svd_local.errors import DeviceLost
from svd_local.result import Progress

REASON = Reason("worker-lost", "m", "h")
EVENTS = [
    events.Begun(Enrolment(Batch("b", "n", NOW, None, "/o", {"queued": 2}), 2, 0, 0), 1),
    events.JobBegun(JOB, 1),
    events.JobProgress(JOB, 1, Progress("denoise", 3, 25, 1.5, "local", "n")),
    events.JobDone(JOB, CLIP, adopted=True),
    events.JobPostponed(JOB, REASON),
    events.JobFailed(JOB, REASON),
    events.JobReleased(JOB),
    events.JobLost(JOB),
    events.JobStalled(JOB, 1, 1860.0, "denoise, 3 of 25"),
    events.Waiting(NOW, 2, 1, ("w",)),
    events.Paused("w", "h", Path("/o")),
    events.Resumed(),
    events.Stopping(True),
    events.WorkerStarted(0, "g", 12, Path("/l")),
    events.WorkerLost(0, None, "w", None),
    events.WorkerSetAside(0, "g", "w"),
]


@pytest.mark.parametrize(
    "message", [*EVENTS, Alive(), Hello("w"), Failed("c", "m")], ids=lambda m: type(m).__name__
)
def test_a_message_arrives_as_it_was_said(message):
    line = to_line(message)

    assert line.isascii()
    assert "\n" not in line
    assert from_line(line.encode()) == message


def test_every_event_is_tried_above():
    assert {type(event) for event in EVENTS} == set(get_args(events.Event))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "7",
        '{"is": "JobBegun"}',
        '{"is": "Nothing", "of": {}}',
        '{"is": "JobBegun", "of": {}}',
    ],
)
def test_half_a_message_is_none(line):
    with pytest.raises(ValueError):
        from_line(line)


def test_an_order_carries_the_settings_tokens_and_all(settings, tmp_path):
    token = SecretStr("hf_secret")
    mine = settings.model_copy(update={"hf_token": token, "vram_budget": 4 * 2**30})
    options = BatchOptions("night", tmp_path / "out", lanes=3)
    order = Order(settings_document(mine), "b", options, gpu=True)

    there = Order.from_line(order.to_line())

    assert there == order
    assert there.options == options
    assert there.to_settings() == mine


@pytest.mark.parametrize("line", ["", "[]", json.dumps({"batch": "b"})])
def test_what_is_no_order_is_refused(line):
    with pytest.raises(ValueError):
        Order.from_line(line)


def test_an_error_says_what_it_is():
    lost = DeviceLost("gone", hint="Start again.")

    assert Failed.of(lost) == Failed("device-lost", "gone", "Start again.")
    assert Failed.of(RuntimeError("x")).code == "bug"
