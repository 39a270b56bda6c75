from __future__ import annotations

import errno
import os

import pytest

from svd_local.errors import DiskFull, InvalidRequest, StorageFailed
from svd_local.result import Files
from svd_local.storage import Staging, link_or_copy


@pytest.fixture
def clip(tmp_path) -> Files:
    with Staging(tmp_path / "videos") as staging:
        staging.write(".jpg", b"poster")
        staging.write(".mp4", b"video")
        paths = staging.publish("sd_video", (".jpg", ".mp4"))
    return Files(video=paths[".mp4"], poster=paths[".jpg"])


def no_links(*_args, **_options):
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_links_under_the_same_name(tmp_path, clip):
    there = link_or_copy(clip, tmp_path / "out")
    assert there == Files(
        video=tmp_path / "out" / clip.video.name, poster=tmp_path / "out" / clip.poster.name
    )
    assert there.video.samefile(clip.video)
    assert len(list((tmp_path / "out").iterdir())) == 2
    clip.video.unlink()
    assert there.video.read_bytes() == b"video"


def test_copies_where_it_cannot_link(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    there = link_or_copy(clip, tmp_path / "out")
    assert not there.video.samefile(clip.video)
    assert there.video.read_bytes() == b"video"
    assert there.poster.read_bytes() == b"poster"


@pytest.mark.parametrize("links", [True, False])
def test_asking_twice_makes_nothing_twice(tmp_path, clip, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    first = link_or_copy(clip, tmp_path / "out")
    assert link_or_copy(clip, tmp_path / "out") == first
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_into_its_own_folder_is_itself(clip):
    assert link_or_copy(clip, clip.video.parent) == clip


def test_another_file_of_that_name_stays(tmp_path, clip):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / clip.video.name).write_bytes(b"other")
    there = link_or_copy(clip, tmp_path / "out")
    assert there.video.read_bytes() == b"video"
    assert there.video.name != clip.video.name
    assert there.poster.stem == there.video.stem
    assert (tmp_path / "out" / clip.video.name).read_bytes() == b"other"


def test_no_room_for_a_copy_leaves_nothing(tmp_path, clip, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(DiskFull):
        link_or_copy(clip, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_gone_is_an_error(tmp_path, clip):
    clip.video.unlink()
    with pytest.raises(StorageFailed):
        link_or_copy(clip, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_under_a_wanted_name(tmp_path, clip):
    there = link_or_copy(clip, clip.video.parent, stem="lesson 1")
    assert (there.video.name, there.poster.name) == ("lesson 1.mp4", "lesson 1.jpg")
    assert there.video.samefile(clip.video)
    assert link_or_copy(clip, clip.video.parent, stem="lesson 1") == there
    assert link_or_copy(there, tmp_path / "out").video.name == "lesson 1.mp4"


def test_a_taken_name_gets_a_number_and_is_found_under_it_again(tmp_path, clip):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "lesson 1.mp4").write_bytes(b"other")
    there = link_or_copy(clip, tmp_path / "out", stem="lesson 1")
    assert there.video.name == "lesson 1_2.mp4"
    assert link_or_copy(clip, tmp_path / "out", stem="lesson 1") == there
    assert (tmp_path / "out" / "lesson 1.mp4").read_bytes() == b"other"


def test_a_name_that_leads_elsewhere_is_refused(tmp_path, clip):
    with pytest.raises(InvalidRequest):
        link_or_copy(clip, tmp_path / "out", stem="../x")
    assert not (tmp_path / "out").exists()
