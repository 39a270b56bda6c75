from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from svd_local.catalog import Catalog
from svd_local.catalog.models import ClipRow
from svd_local.errors import NotFound, StorageFailed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_row_and_files_go_together(catalog, make_clip, root):
    gone = catalog.add(make_clip("a"), {})
    catalog.add(make_clip("b"), {})
    removed = catalog.remove([catalog.get(gone)])
    assert [clip.id for clip in removed] == [gone]
    assert names(root / "videos") == ["b.jpg", "b.json", "b.mp4"]
    assert [clip.path.stem for clip in catalog.clips()] == ["b"]
    with pytest.raises(NotFound):
        catalog.get(gone)
    assert catalog.remove(removed) == []


def test_a_row_whose_files_are_gone_already_can_be_removed(catalog, make_clip):
    clip = make_clip()
    name = catalog.add(clip, {})
    for path in (clip.files.video, clip.files.poster, clip.files.manifest):
        path.unlink()
    catalog.remove([catalog.get(name)])
    assert catalog.clips() == []


def test_what_another_row_names_stays_for_it(catalog, make_clip, root):
    clip = make_clip("a")
    other = make_clip("b")
    first = catalog.add(clip, {})
    shares = dataclasses.replace(
        other, files=dataclasses.replace(other.files, poster=clip.files.poster)
    )
    second = catalog.add(shares, {})
    same = catalog.add(clip, {})
    catalog.remove([catalog.get(first)])
    assert catalog.get(same).present
    assert clip.files.manifest.exists()
    catalog.remove([catalog.get(same)])
    assert names(root / "videos") == ["a.jpg", "b.jpg", "b.json", "b.mp4"]
    assert catalog.get(second).files.poster == clip.files.poster


def test_a_hard_link_elsewhere_stays(catalog, make_clip, tmp_path):
    clip = make_clip()
    os.link(clip.path, tmp_path / "mine.mp4")
    catalog.add(clip, {})
    catalog.remove(catalog.clips())
    assert (tmp_path / "mine.mp4").read_bytes() == b"video"


def test_only_what_is_older_goes(catalog, make_clip, root):
    now = datetime.now(UTC)
    for days in (0, 3, 8, 30):
        catalog.add(make_clip(f"day{days}"), {}, created_at=now - timedelta(days=days, minutes=1))
    assert [clip.path.stem for clip in catalog.older_than(3)] == ["day30", "day8", "day3"]
    removed = catalog.remove(catalog.older_than(7))
    assert [clip.path.stem for clip in removed] == ["day30", "day8"]
    assert [clip.path.stem for clip in catalog.clips()] == ["day0", "day3"]
    assert len(names(root / "videos")) == 6


def test_many_go_at_once(catalog, make_clip, root, monkeypatch):
    monkeypatch.setattr("svd_local.catalog.removal._AT_ONCE", 3)
    for number in range(8):
        catalog.add(make_clip(f"video{number}"), {})
    assert len(catalog.remove(catalog.clips())) == 8
    assert catalog.clips() == []
    assert names(root / "videos") == []


def undeletable(monkeypatch, suffix: str) -> None:
    real = Path.unlink

    def unlink(path, missing_ok=False):
        if path.suffix == suffix:
            raise PermissionError(1, "Operation not permitted", str(path))
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)


def test_a_video_that_cannot_be_deleted_stays_whole_with_its_row(
    catalog, make_clip, root, monkeypatch
):
    name = catalog.add(make_clip(), {})
    undeletable(monkeypatch, ".mp4")
    with pytest.raises(StorageFailed, match=r"sd_video_1\.mp4 cannot be deleted") as caught:
        catalog.remove([catalog.get(name)])
    assert caught.value.hint
    assert catalog.get(name).present
    assert len(names(root / "videos")) == 3


def test_a_poster_that_cannot_be_deleted_is_tried_again_later(
    catalog, make_clip, root, monkeypatch, database_url
):
    name = catalog.add(make_clip(), {})
    with monkeypatch.context() as patch:
        undeletable(patch, ".jpg")
        with pytest.raises(StorageFailed, match=r"sd_video_1\.jpg cannot be deleted"):
            catalog.remove([catalog.get(name)])
        assert catalog.clips() == []
        with Catalog(database_url, root) as still:
            assert still.clips() == []
    assert "sd_video_1.jpg" in names(root / "videos")
    with Catalog(database_url, root) as later:
        assert later.clips() == []
    assert names(root / "videos") == []
    with catalog._ready().reading() as session:
        assert session.scalar(select(func.count()).select_from(ClipRow)) == 0
