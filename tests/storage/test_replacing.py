"""Files that are written again take the place of the old ones, whole."""

from __future__ import annotations

import pytest

from svd_local.errors import StorageFailed
from svd_local.storage import replace_files


def test_new_files_take_the_place_of_the_old(tmp_path):
    part, folder = tmp_path / "part", tmp_path / "folder"
    part.mkdir()
    folder.mkdir()
    (folder / "a.html").write_text("old")
    sources = [part / "b.csv", part / "a.html"]
    for source in sources:
        source.write_text(f"new {source.name}")
    assert replace_files(sources, folder) == [folder / "b.csv", folder / "a.html"]
    assert (folder / "a.html").read_text() == "new a.html"
    assert list(part.iterdir()) == []


def test_a_file_that_is_missing_changes_nothing(tmp_path):
    (tmp_path / "a.html").write_text("old")
    part = tmp_path / "part"
    part.mkdir()
    (part / "a.html").write_text("new")
    with pytest.raises(StorageFailed):
        replace_files([part / "a.html", part / "missing"], tmp_path)
    assert (tmp_path / "a.html").read_text() == "old"
