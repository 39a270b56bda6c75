from __future__ import annotations

import os
from pathlib import Path

import pytest
from batch.reading import jobs_of, problems_of

from svd_local.batch import read_manifest
from svd_local.batch.source.pictures import natural_order
from svd_local.errors import InvalidRequest


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("m.CSV", "prompt\na\n", "csv"),
        ("m.tsv", "prompt\na\n", "csv"),
        ("m.ndjson", '{"prompt": "a"}', "jsonl"),
        ("m.yml", "- prompt: a\n", "yaml"),
        ("m", "prompt\na\n", "csv"),
        ("m.txt", ' \n{"prompt": "a"}', "jsonl"),
        ("m.txt", "# a\n\njobs:\n- prompt: a\n", "yaml"),
        ("m.txt", "- prompt: a\n", "yaml"),
    ],
)
def test_by_suffix_else_by_looking(opened, name: str, text: str, kind: str) -> None:
    manifest = opened(text, name)
    assert manifest.kind == kind
    assert [job.fields for job in jobs_of(manifest)] == [{"prompt": "a"}]


def test_a_folder_in_natural_order(tmp_path: Path) -> None:
    for name in ("page 10.png", "Page 9.JPG", "page 1.tiff", ".hidden.png", "notes.txt", "a.png.d"):
        (tmp_path / name).touch()
    (tmp_path / "more.png").mkdir()
    manifest = read_manifest(tmp_path, defaults={"title": "${stem}"}, output_template="{stem}")
    jobs = jobs_of(manifest)
    assert [(job.row, job.name) for job in jobs] == [(1, "page 1"), (2, "Page 9"), (3, "page 10")]
    assert jobs[1].fields == {"image": str(tmp_path / "Page 9.JPG"), "title": "Page 9"}
    assert manifest.notes == ("2 files that are no pictures were passed over",)


def test_a_folders_problems_name_their_picture(tmp_path: Path) -> None:
    for name in (b"caf\xe9\n.png", b"l" * 230 + b".png"):
        (tmp_path / os.fsdecode(name)).touch()
    manifest = read_manifest(tmp_path, defaults={"title": "${stem}"})
    undecodable, long = problems_of(manifest)
    assert undecodable.picture == r"caf\xe9\n.png"
    assert str(undecodable).startswith(
        r"row 1 (caf\xe9\n.png): title: holds bytes that are no UTF-8"
    )
    assert "renamed first" in undecodable.hint
    assert long.to_json()["picture"] == "l" * 230 + ".png"
    assert f"({'l' * 59}…{'l' * 16}.png): title: " in str(long)


def test_natural_order() -> None:
    names = ["b", "a1b", "A", "a", "10", "9", "01", "1", "a١", "²", "", "9" * 200]
    ordered = ["", "01", "1", "9", "10", "9" * 200, "A", "a", "a١", "a1b", "b", "²"]
    assert sorted(names, key=natural_order) == ordered


def test_what_is_no_manifest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sheet.xlsx").touch()
    for name, what in (("none.csv", "exist"), ("pipe", "neither"), ("sheet.xlsx", "spreadsheet")):
        with pytest.raises(InvalidRequest, match=what):
            read_manifest(tmp_path / name)


def test_it_may_not_change_while_it_is_read(opened, course: Path) -> None:
    manifest = opened("prompt\na\nb\n")
    rows = manifest.rows()
    next(rows)
    (course / "lessons.csv").write_text("prompt\na\nb\nc\n")
    with pytest.raises(InvalidRequest, match="changed"):
        list(rows)
