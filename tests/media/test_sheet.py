"""A contact sheet shows the clip from its first frame to its last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svd_local.errors import MediaFailed, StorageFailed
from svd_local.media.probe import decode_frames
from svd_local.media.sheet import GAP, spread, write_sheet


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        return np.asarray(picture, int)


def test_frames_are_spread_from_first_to_last() -> None:
    assert spread(25, 5) == [0, 6, 12, 18, 24]
    assert spread(14, 4) == [0, 4, 9, 13]
    assert spread(3, 5) == [0, 1, 2]
    assert spread(9, 1) == [0]


def test_only_the_frames_asked_for_are_decoded(clip: Path) -> None:
    every = list(decode_frames(clip))
    some = list(decode_frames(clip, only=[0, 5, 13, 99]))
    assert len(some) == 3
    for frame, number in zip(some, (0, 5, 13), strict=True):
        assert (frame == every[number]).all()


@pytest.mark.parametrize("known", [14, None])
def test_the_clips_frames_stand_side_by_side(clip: Path, tmp_path: Path, known: int | None) -> None:
    sheet, thumbnail = tmp_path / "sheet.jpg", tmp_path / "thumbnail.jpg"
    shown = write_sheet(clip, sheet, thumbnail=thumbnail, frames=known, tiles=3, tile_width=96)
    assert shown == 3
    picture, source = pixels(sheet), [frame.astype(int) for frame in decode_frames(clip)]
    assert picture.shape == (64, 3 * 96 + 2 * GAP, 3)
    for place, number in enumerate((0, 6, 13)):
        tile = picture[:, place * (96 + GAP) :][:, :96]
        errors = [np.abs(tile - frame).mean() for frame in source]
        # A frame drifts two pixels, so that its neighbours are near; 4:2:0 and JPEG cost a little.
        assert abs(int(np.argmin(errors)) - number) <= 1
        assert min(errors) < 8
    assert pixels(thumbnail).shape == (64, 96, 3), "a small video is not blown up"


def test_a_shorter_clip_than_was_said_gives_what_it_holds(clip: Path, tmp_path: Path) -> None:
    assert write_sheet(clip, tmp_path / "sheet.jpg", frames=25, tiles=5) == 3


def test_what_is_no_video_leaves_nothing(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"ffconcat version 1.0\nfile /etc/passwd\n")
    with pytest.raises(MediaFailed):
        write_sheet(video, tmp_path / "sheet.jpg", frames=25)
    assert not (tmp_path / "sheet.jpg").exists()


def test_a_folder_that_is_missing_is_said(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="sheet"):
        write_sheet(clip, tmp_path / "none" / "sheet.jpg")
    thumbnail = tmp_path / "none" / "thumbnail.jpg"
    with pytest.raises(StorageFailed):
        write_sheet(clip, tmp_path / "sheet.jpg", thumbnail=thumbnail)
    assert not (tmp_path / "sheet.jpg").exists(), "both or neither"
