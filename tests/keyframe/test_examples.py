"""The sample lesson works as it is, with its picture and with its words alone."""

from __future__ import annotations

import json
from pathlib import Path

from svd_local.keyframe import make_keyframes, open_picture
from svd_local.request import ClipRequest

LESSON = Path(__file__).parents[2] / "examples" / "lesson"


def test_the_sample_lesson_is_a_request() -> None:
    fields = json.loads((LESSON / "lesson.json").read_text("utf-8"))
    picture = LESSON / fields.pop("image")
    assert open_picture(picture).size == (1600, 900)
    assert picture.stat().st_size <= 300_000
    shown = make_keyframes(ClipRequest(**fields, image=picture), (256, 144))
    drawn = make_keyframes(ClipRequest(**fields), (256, 144), pictures="all")
    assert [keyframe.origin for keyframe in (*shown, *drawn)] == ["picture", *["illustration"] * 3]
