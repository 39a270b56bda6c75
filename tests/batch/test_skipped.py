from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import batches

from svd_local.batch import Problem
from svd_local.batch.skipped import MAX_KEPT, Skipped
from svd_local.batch.workers.protocol import Order


def problem(row: int, field: str | None = "frames") -> Problem:
    return Problem(row, field, "-1 frames make no video", "Write 14 to 25.")


def test_it_comes_back_as_it_was() -> None:
    skipped = Skipped.of(2, [problem(3), problem(3, None), problem(7)])
    assert skipped is not None
    assert skipped.more == 0
    assert [len(problems) for problems in skipped.by_row] == [2, 1]
    assert Skipped.parse(json.loads(json.dumps(skipped.to_json()))) == skipped
    assert Skipped.of(0, []) is None


def test_of_very_many_the_first_are_kept_and_all_are_counted() -> None:
    skipped = Skipped.of(100_000, [problem(row) for row in range(2, 100_002)])
    assert skipped is not None
    assert (len(skipped.problems), skipped.more) == (MAX_KEPT, 100_000 - MAX_KEPT)
    assert len(json.dumps(skipped.to_json())) < 100_000
    assert str(skipped).endswith("as bad: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 99,990 more")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([4], "1 row of the manifest was left out as bad: 4"),
        ([4, 9], "2 rows of the manifest were left out as bad: 4, 9"),
    ],
)
def test_in_a_line(rows: list[int], told: str) -> None:
    assert str(Skipped.of(len(rows), [problem(row) for row in rows])) == told


def test_halves_of_letters_reach_a_worker_process_as_escapes(tmp_path: Path) -> None:
    skipped = Skipped.of(1, [Problem(2, "a\ud800", "b\udce9 is none", "c\ud800")])
    assert skipped is not None
    (kept,) = skipped.problems
    assert (kept.field, kept.reason, kept.hint) == (r"a\ud800", r"b\udce9 is none", r"c\ud800")
    options = batches.options(tmp_path, skipped=skipped)
    assert Order.from_line(Order({}, "id", options).to_line()).options == options
