"""A finished video is kept as it is: the very pictures, in a file as ours are."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from svd_local.errors import Cancelled, MediaFailed
from svd_local.media import ffmpeg
from svd_local.media.keep import keep_video, plays_everywhere
from svd_local.media.probe import decode_frames, probe, read_comment, verify


def pixels(path: Path) -> str:
    digest = hashlib.sha256()
    for frame in decode_frames(path):
        digest.update(frame.tobytes())
    return digest.hexdigest()


def test_the_pictures_are_the_same_and_the_comment_is_ours(clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept.mp4"
    keep_video(clip, target, comment='{"a": "=;#\\n"}')
    info = probe(clip)
    verify(target, frames=info.frames, size=(info.width, info.height), fps=info.fps)
    assert pixels(target) == pixels(clip)
    assert read_comment(target) == '{"a": "=;#\\n"}'
    data = target.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_sound_and_foreign_tags_are_left_out(clip: Path, tmp_path: Path) -> None:
    other, target = tmp_path / "other.mp4", tmp_path / "kept.mp4"
    arguments = ["-v", "error", "-i", str(clip), "-f", "lavfi", "-i", "sine=d=1", "-c:v", "copy"]
    arguments += ["-metadata", "title=canary", "-metadata", "comment=canary", f"file:{other}"]
    ffmpeg.run(arguments, doing="add sound", deadline_s=30)
    assert b"canary" in other.read_bytes()
    keep_video(other, target)
    data = target.read_bytes()
    assert b"canary" not in data
    assert b"mp4a" not in data


def test_what_is_no_video_leaves_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "source.mp4", tmp_path / "kept.mp4"
    source.write_bytes(b"ffconcat version 1.0\nfile /etc/hostname\n")
    with pytest.raises(MediaFailed):
        keep_video(source, target)
    assert list(tmp_path.glob("*.mp4")) == [source]


def test_cancelling_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        keep_video(clip, tmp_path / "kept.mp4", check=stop)
    assert list(tmp_path.glob("*.mp4")) == []


def test_what_plays_everywhere(clip: Path) -> None:
    info = probe(clip)
    assert plays_everywhere(info)
    for other in (
        {"codec": "hevc"},
        {"pixel_format": "yuv444p"},
        {"pixel_format": "yuv420p10le"},
        {"width": 127},
        {"height": 71},
        {"constant_rate": False},
        {"fps": 240.0},
        {"fps": 0.5},
    ):
        assert not plays_everywhere(dataclasses.replace(info, **other))
