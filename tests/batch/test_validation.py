from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from svd_local.batch import Validation, read_manifest, validate
from svd_local.errors import InvalidRequest
from svd_local.settings import Settings


@pytest.fixture(autouse=True)
def _cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def _startable(found: Validation, *, skip_invalid: bool = False) -> bool:
    with contextlib.suppress(InvalidRequest):
        found.require_startable(skip_invalid=skip_invalid)
        return True
    return False


def test_a_clean_manifest(opened, settings: Settings, course: Path) -> None:
    found = validate(opened("image,title\npictures/desk.png,a\npictures/desk.png,b\n"), settings)
    assert (found.rows, found.jobs, found.good_jobs, found.problems) == (2, 2, 2, ())
    assert found.clean
    assert _startable(found)
    assert [job.row for job in found.specs()] == [2, 3]
    assert found.out == (settings.media_dir / "videos").absolute()
    assert not settings.media_dir.exists()


def test_three_bad_rows_in_ten(opened, settings: Settings, course: Path) -> None:
    (course / "text.png").write_text("no picture")
    lines = [f"a,pictures/desk.png,{n}" for n in range(10)]
    lines[2] = "a,pictures/none.png,2"
    lines[5] = "a,text.png,-1"
    lines[9] = "a,../private.png,9"
    found = validate(opened("\n".join(["prompt,image,seed", *lines])), settings)
    assert [(p.row, p.field) for p in found.problems] == [
        (4, "image"),
        (7, "seed"),
        (11, "image"),
    ]
    assert str(course / "pictures" / "none.png") in found.problems[0].hint
    assert (found.rows, found.good_jobs, len(found.bad_rows)) == (10, 7, 3)
    assert not _startable(found)
    assert _startable(found, skip_invalid=True)
    assert [job.row for job in found.specs()] == [2, 3, 5, 6, 8, 9, 10]


def test_pictures_are_opened(opened, settings: Settings, course: Path) -> None:
    (course / "text.png").write_text("no picture")
    shutil.copy(course / "pictures" / "desk.png", course / "logo.png")
    text = (
        "prompt,image,images,logo\n"
        "a,text.png,,\na,text.png,,\na,,logo.png|none.png|text.png,\na,,,none.png\n"
        "a,logo.png,logo.png,logo.png\na,pictures,,\na,pictures\\desk.png,,\n"
    )
    found = validate(opened(text), settings)
    assert [(p.row, p.field) for p in found.problems] == [
        (2, "image"),
        (3, "image"),
        (4, "images"),
        (4, "images"),
        (5, "logo"),
        (7, "image"),
        (8, "image"),
    ]
    assert "Write /" in found.problems[-1].hint


def test_a_picture_that_is_none_is_named_where_the_manifest_is_a_folder(
    settings: Settings, course: Path
) -> None:
    (course / "pictures" / "a.png").write_bytes(b"\x89PNG")
    (problem,) = validate(read_manifest(course / "pictures"), settings).problems
    assert (problem.row, problem.field, problem.picture) == (1, "image", "a.png")


@pytest.mark.parametrize("text", ["prompt,title\n", "prompt,title\n,\n\n"])
def test_nothing_in_it(opened, settings: Settings, text: str) -> None:
    found = validate(opened(text), settings)
    assert (found.rows, found.clean) == (0, False)
    with pytest.raises(InvalidRequest, match="holds no rows"):
        found.require_startable(skip_invalid=True)


@pytest.mark.parametrize(
    "text", ["prompt,promt\na,\nb,\n", 'prompt,title\na,b\n"c,d\ne,f\n'], ids=["header", "quote"]
)
def test_what_spoils_all_of_it_cannot_be_skipped(opened, settings: Settings, text: str) -> None:
    found = validate(opened(text), settings)
    assert found.fatal is not None
    assert (found.good_jobs, list(found.specs())) == (0, [])
    assert not _startable(found, skip_invalid=True)


def test_all_rows_bad(opened, settings: Settings) -> None:
    found = validate(opened("prompt,frames\na,-1\n"), settings)
    assert not _startable(found, skip_invalid=True)


def test_a_checkpoint_that_is_not_there(opened, settings: Settings) -> None:
    found = validate(opened("prompt,checkpoint\na,svdd\nb,svd-xt\nc,\n"), settings)
    assert [(p.row, p.field) for p in found.problems] == [(2, "checkpoint"), (3, "checkpoint")]
    assert "svd" in found.problems[0].hint


def test_duplicates_and_equal_names_are_noted(opened, settings: Settings) -> None:
    text = "prompt,title\na,t\nb,t\na,t\n"
    found = validate(opened(text, output_template="{title}"), settings)
    assert found.clean
    assert found.duplicates == ((4, 2),)
    assert found.renamed == ((3, 2, "t"), (4, 2, "t"))
    assert any("row 4 as row 2" in note for note in found.notes)
    document = found.to_json()
    assert document["duplicates"] == [{"row": 4, "same_as": 2, "one_clip": False}]
    assert document["renamed"][0] == {"row": 3, "same_name_as": 2, "name": "t"}
    assert "each is a clip of its own" in found.notes[0]


def test_rows_that_are_the_same_clip_are_said_to_be_one(opened, settings: Settings) -> None:
    text = "prompt,seed\na,7\na,7\nb,\na,7\nb,\n"
    found = validate(opened(text), settings)
    assert (found.duplicates, found.one_clip) == (((3, 2), (5, 2), (6, 4)), {3, 5})
    assert [note for note in found.notes if "very same" in note] == [
        "1 row is the very same as an earlier one (row 6 as row 4); each is a clip of its own",
        "2 rows are the very same as an earlier one (row 3 as row 2), down to the seed: that clip is "
        "made once, and theirs as well",
    ]


def test_what_is_over_is_not_foreseen(opened, settings: Settings) -> None:
    manifest = opened("prompt\na\nb\nc\n")
    keys = [job.key for row in manifest.rows() for job in row.jobs]
    found = validate(manifest, settings, over={keys[0]: "done", keys[2]: "failed"})
    assert (found.good_jobs, found.forecast.clips) == (3, 1)
    assert found.forecast.over == {"done": 1, "failed": 1}
    found.require_startable(skip_invalid=False)
    found = validate(manifest, settings, over=dict.fromkeys(keys, "done"))
    found.require_startable(skip_invalid=False)
    assert (found.forecast.seconds, found.forecast.bytes, found.good_jobs) == (0.0, 0, 3)


def test_it_tells_how_far_it_is(opened, settings: Settings) -> None:
    seen: list[int] = []
    validate(opened("prompt\n" + "a\n" * 2500), settings, progress=seen.append)
    assert seen == [1000, 2000]
