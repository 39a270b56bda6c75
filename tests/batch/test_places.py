from __future__ import annotations

from pathlib import Path

import pytest
from batch.reading import jobs_of, problems_of, told

from svd_local.batch import read_manifest
from svd_local.batch.places import Ground, Misplaced


def test_paths_count_from_the_manifest(
    opened, course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    text = (
        "image,images,logo,checkpoint\n"
        "pictures/desk.png,./a.png|pictures/../b.png| ,logo.png,./my-svd\n"
        ",,,\n"
    )
    (job,) = jobs_of(opened(text))
    assert job.fields == {
        "image": str(course / "pictures" / "desk.png"),
        "images": [str(course / "a.png"), str(course / "b.png")],
        "logo": str(course / "logo.png"),
        "checkpoint": str(course / "my-svd"),
    }


@pytest.mark.parametrize(
    "path",
    [
        "../private.png",
        "pictures/../../private.png",
        "{top}/private.png",
        "{top}/course/../private.png",
        "{top}/coursework.png",
        "~/private.png",
        "${{up}}/private.png",
        "out/private.png",
        "pictures/link.png",
        "out/../../private.png",
    ],
)
def test_paths_that_climb_out(opened, course: Path, tmp_path: Path, path: str) -> None:
    (course / "out").symlink_to(tmp_path)
    (course / "pictures" / "link.png").symlink_to(tmp_path / "private.png")
    text = f"image,up\n{path.format(top=tmp_path)},..\n"
    manifest = opened(text, defaults={"title": "${up}"})
    assert told(problems_of(manifest)) == [(2, "image")]
    assert "--allow-outside" in problems_of(manifest)[0].hint
    assert len(jobs_of(opened(text, defaults={"title": "${up}"}, allow_outside=True))) == 1


def test_links_that_stay_inside(opened, course: Path) -> None:
    (course / "all").symlink_to(course / "pictures")
    (job,) = jobs_of(opened("image\nall/desk.png\n"))
    assert job.fields["image"] == str(course / "all" / "desk.png")


def test_a_manifest_behind_a_link(opened, course: Path, tmp_path: Path) -> None:
    opened("image\npictures/desk.png\n")
    (tmp_path / "alias").symlink_to(course)
    (job,) = jobs_of(read_manifest(tmp_path / "alias" / "lessons.csv"))
    assert job.fields["image"] == str(tmp_path / "alias" / "pictures" / "desk.png")


def test_options_count_from_here_and_may_lead_anywhere(
    opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"image": "private.png", "images": ["./course/a.png"], "logo": "/somewhere/logo.png"}
    (job,) = jobs_of(opened("title\na\n", defaults=options))
    assert job.fields["image"] == str(tmp_path / "private.png")
    assert job.fields["images"] == [str(tmp_path / "course" / "a.png")]
    assert job.fields["logo"] == "/somewhere/logo.png"


@pytest.mark.parametrize("image", ["{top}/course/${{slug}}.png", "course/${{slug}}.png"])
def test_what_a_row_puts_into_an_option_stays_behind_it(
    opened, course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"image": image.format(top=tmp_path)}
    manifest = opened("slug\npictures/desk\n../private\n", defaults=options)
    assert [job.fields["image"] for row in manifest.rows() for job in row.jobs] == [
        str(course / "pictures" / "desk.png")
    ]
    assert told(problems_of(manifest)) == [(3, "image")]


def test_a_header_counts_from_the_manifest(opened) -> None:
    text = '{"defaults": {"image": "../private.png"}}\n{"title": "a"}\n'
    assert told(problems_of(opened(text, "m.jsonl"))) == [(2, "image")]


@pytest.mark.parametrize("path", ["", " ", "a\x00b", "https://host/a.png", "file:///etc/passwd"])
def test_what_is_no_path(tmp_path: Path, path: str) -> None:
    with pytest.raises(Misplaced):
        Ground(tmp_path, fenced=False).place(path)
