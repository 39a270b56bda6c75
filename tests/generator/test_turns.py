"""Turns are taken in the order of arrival, and waiting can be given up."""

from __future__ import annotations

import threading
import time

import pytest

from svd_local.errors import Cancelled
from svd_local.generator.turns import Turns


def _go_on() -> None:
    """A check that never stops anybody."""


def test_first_come_first_served() -> None:
    turns, order = Turns(), []
    callers: list[threading.Thread] = []

    def call(number: int) -> None:
        with turns.take(_go_on):
            order.append(number)

    with turns.take(_go_on):
        for number in range(5):
            callers.append(threading.Thread(target=call, args=(number,)))
            callers[-1].start()
            while len(turns._queue) < number + 2:
                time.sleep(0.001)
    for caller in callers:
        caller.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_whoever_gives_up_waiting_leaves_the_queue() -> None:
    turns = Turns()

    def give_up() -> None:
        raise Cancelled("no longer wanted")

    refused: list[bool] = []

    def call() -> None:
        with pytest.raises(Cancelled), turns.take(give_up):
            refused.append(False)
        refused.append(True)

    with turns.take(_go_on):
        caller = threading.Thread(target=call)
        caller.start()
        caller.join(10)
    assert refused == [True]
    with turns.take(_go_on):
        assert len(turns._queue) == 1


def test_an_exception_gives_the_turn_back() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.take(_go_on):
        raise ZeroDivisionError
    with turns.take(_go_on):
        assert len(turns._queue) == 1
