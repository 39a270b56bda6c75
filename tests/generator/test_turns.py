"""Turns are taken in the order of arrival, and waiting can be given up."""

from __future__ import annotations

import threading
import time

import pytest

from svd_local.errors import Cancelled
from svd_local.generator.turns import Room, Turns, Underway


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
            while len(turns._line) < number + 2:
                time.sleep(0.001)
    for caller in callers:
        caller.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_whoever_gives_up_waiting_leaves_the_line() -> None:
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
        assert len(turns._line) == 1


def test_an_exception_gives_the_turn_back() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.take(_go_on):
        raise ZeroDivisionError
    with turns.take(_go_on):
        assert len(turns._line) == 1


def test_a_place_keeps_its_rank_while_its_holder_prepares() -> None:
    turns, order = Turns(), []
    joined, prepared = threading.Event(), threading.Event()

    def slow() -> None:
        with turns.place() as place:
            joined.set()
            assert prepared.wait(30)
            with place.turn(_go_on):
                order.append("first")

    def quick() -> None:
        with turns.take(_go_on):
            order.append("second")

    callers = [threading.Thread(target=slow), threading.Thread(target=quick)]
    callers[0].start()
    assert joined.wait(30)
    callers[1].start()
    while len(turns._line) < 2:
        time.sleep(0.001)
    prepared.set()
    for caller in callers:
        caller.join(30)
    assert order == ["first", "second"]


def test_who_leaves_lets_others_pass_and_may_come_back() -> None:
    turns = Turns()
    with turns.place() as place:
        place.leave()
        with turns.take(_go_on):
            pass
        with place.turn(_go_on):
            assert len(turns._line) == 1
        assert len(turns._line) == 0
        with place.turn(_go_on):
            assert len(turns._line) == 1


def test_a_failed_try_keeps_the_place_for_the_next_one() -> None:
    turns = Turns()
    with turns.place() as place:
        with turns.place() as other:
            with pytest.raises(ZeroDivisionError), place.turn(_go_on):
                raise ZeroDivisionError
            with place.turn(_go_on):
                assert turns._line[1] is other
        assert len(turns._line) == 0


def test_room_is_for_so_many() -> None:
    room = Room(2)

    def give_up() -> None:
        raise Cancelled("no longer wanted")

    with room.taken(_go_on), room.taken(_go_on), pytest.raises(Cancelled), room.taken(give_up):
        pytest.fail("there was none")
    with room.taken(give_up):
        pass


def test_the_same_is_made_by_one_at_a_time() -> None:
    underway, before = Underway(), []

    def give_up() -> None:
        raise Cancelled("no longer wanted")

    with underway.alone("a", give_up, lambda: before.append("waits")):
        with underway.alone("b", give_up, lambda: before.append("waits")):
            assert before == []
        with (
            pytest.raises(Cancelled),
            underway.alone("a", give_up, lambda: before.append("waits")),
        ):
            pytest.fail("both at once")
        assert before == ["waits"]
    with underway.alone("a", give_up, lambda: before.append("waits")):
        assert before == ["waits"]
