"""A poster is the frame, with its letters, as a JPEG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from svd_local.errors import DiskFull, MediaFailed, StorageFailed
from svd_local.media.poster import write_poster


def frame(width: int = 64, height: int = 48) -> np.ndarray[Any, np.dtype[np.uint8]]:
    across = np.linspace(20, 220, width)
    return np.broadcast_to(across[None, :, None], (height, width, 3)).astype(np.uint8)


def test_the_frame_comes_back(tmp_path: Path) -> None:
    write_poster(frame(), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as poster:
        assert (poster.format, poster.mode, poster.size) == ("JPEG", "RGB", (64, 48))
        assert np.abs(np.asarray(poster, int) - frame()).mean() < 2


def test_scaled_with_letters_on_top(tmp_path: Path) -> None:
    overlay = Image.new("RGBA", (128, 96))
    overlay.paste((255, 0, 0, 255), (32, 32, 64, 64))
    write_poster(frame(), tmp_path / "a.jpg", overlay=overlay, size=(128, 96))
    with Image.open(tmp_path / "a.jpg") as poster:
        assert poster.size == (128, 96)
        assert np.abs(np.asarray(poster, int)[36:60, 36:60] - (255, 0, 0)).max() < 12
        assert np.abs(np.asarray(poster, int)[80, 100] - frame()[40, 50]).max() < 6


def test_a_pictures_metadata_stays_behind(tmp_path: Path) -> None:
    source = Image.fromarray(frame())
    exif = source.getexif()
    exif[0x010E] = "taken at home"
    source.save(tmp_path / "source.jpg", exif=exif, comment=b"secret")
    with Image.open(tmp_path / "source.jpg") as opened:
        write_poster(opened, tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    assert b"taken at home" not in content
    assert b"secret" not in content


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8), np.zeros((4, 4, 3))]
)
def test_what_is_no_frame_is_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(MediaFailed, match="no frame"):
        write_poster(wrong, tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()


def test_an_overlay_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaFailed, match="overlay"):
        write_poster(frame(), tmp_path / "a.jpg", overlay=Image.new("RGBA", (8, 8)))


def test_a_full_disk_and_a_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "full.jpg").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"full\.jpg"):
        write_poster(frame(), tmp_path / "full.jpg")
    with pytest.raises(StorageFailed, match="missing"):
        write_poster(frame(), tmp_path / "missing" / "a.jpg")
