from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_local.batch.filling import Filling


def _fill(**values: Any) -> dict[str, Any]:
    work = Filling(3, values)
    filled = work.fill()
    assert work.problems == []
    return filled


def _reason(**values: Any) -> str:
    work = Filling(3, values)
    filled = work.fill()
    (problem,) = work.problems
    assert problem.row == 3
    assert problem.hint
    assert problem.field not in filled
    return f"{problem.field}: {problem.reason}"


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("Lesson ${n}: ${ Lesson-Topic }", "Lesson 3: saws"),
        ("$${n} costs $5, $$ and {n}", "${n} costs $5, $$ and {n}"),
        ("${missing:-nothing} ${n:-1} ${missing:-}", "nothing 3 "),
        ("${raw}", "${n} $${n}"),
        ("${flag}", "true"),
    ],
)
def test_what_a_template_becomes(text: str, becomes: str) -> None:
    columns = {"n": 3, "lesson_topic": "saws", "raw": "${n} $${n}", "flag": True}
    assert _fill(title=text, **columns)["title"] == becomes


def test_fields_take_fields_that_are_filled_in_first() -> None:
    filled = _fill(prompt="${title}!", title="${caption} ${n}", caption="a", n="1")
    assert filled["prompt"] == "a 1!"


def test_lists_are_filled_in_too() -> None:
    assert _fill(images=["${n}.png", 7], n="1")["images"] == ["1.png", 7]


def test_only_texts_and_paths_are_templates() -> None:
    assert _fill(quality="${n}", n="fast")["quality"] == "${n}"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"title": "${n}"}, "title: ${n}: this row gives no n"),
        ({"title": "${__class__}"}, "title: ${__class__}: this row gives no __class__"),
        ({"title": "${}"}, "title: ${}: this row gives no such column"),
        ({"title": "${n"}, "title: ${ without a column and }"),
        ({"title": "${a.__class__}", "a": 1}, "title: ${a.__class__}: this row gives no "),
        ({"title": "${title}"}, "title: ${title} leads back to itself"),
        ({"title": "${images}", "images": []}, "title: ${images} is no single value"),
    ],
)
def test_what_cannot_be_filled_in(values: dict[str, Any], reason: str) -> None:
    assert _reason(**values).startswith(reason)


def test_circles_end() -> None:
    work = Filling(1, {"title": "${prompt}", "prompt": "${caption}", "caption": "${title}"})
    work.fill()
    assert any("leads back to itself" in problem.reason for problem in work.problems)


@given(st.text(), st.text())
def test_values_go_in_as_they_are(before: str, value: str) -> None:
    before = before.replace("$", "")
    assert _fill(title=before + "${x}", x=value)["title"] == before + value


@given(st.text(alphabet="${}:-xn "))
def test_any_text_is_filled_in_or_refused(text: str) -> None:
    work = Filling(1, {"title": text, "n": "1"})
    filled = work.fill()
    assert ("title" in filled) == (not work.problems)
