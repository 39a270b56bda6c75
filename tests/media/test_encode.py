"""What is encoded plays everywhere, holds every frame, has its colours, and fails tidily."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from svd_local.errors import Cancelled, DiskFull, MediaFailed, StorageFailed
from svd_local.media import ffmpeg
from svd_local.media.encode import EncoderSettings, encode_video, encoder_settings
from svd_local.media.probe import decode_frames, probe, read_comment, verify

Frames = np.ndarray[Any, np.dtype[np.uint8]]
FAST = encoder_settings("fast")
BEST = EncoderSettings(crf=1, preset="medium")


def encode(frames: Frames, target: Path, **changes: Any) -> Path:
    size = (frames.shape[2], frames.shape[1])
    options = {"source_size": size, "output_size": size, "fps": 7, "settings": FAST} | changes
    encode_video([frames], target=target, **options)
    return target


def drift(count: int, width: int = 64, height: int = 48) -> Frames:
    """A bright square that moves two pixels a frame over grey."""
    frames = np.full((count, height, width, 3), 90, np.uint8)
    for index in range(count):
        left = 2 * index % (width - 16)
        frames[index, 8:24, left : left + 16] = (240, 220, 40)
    return frames


@pytest.mark.parametrize(
    ("count", "fps"), [(14, 7), (25, 7), (14, 6), (25, 8), (96, 24), (1, 7), (2, 7)]
)
@pytest.mark.parametrize("quality", ["fast", "high"])
def test_every_frame_arrives_at_a_constant_rate(
    tmp_path: Path, count: int, fps: int, quality: str
) -> None:
    target = encode(drift(count), tmp_path / "a.mp4", fps=fps, settings=encoder_settings(quality))
    info = verify(target, frames=count, size=(64, 48), fps=fps)
    assert info.duration_s == pytest.approx(count / fps, abs=1e-3)
    assert len(list(decode_frames(target))) == count


def test_what_players_ask_for(tmp_path: Path) -> None:
    target = encode(drift(14), tmp_path / "a.mp4")
    info = probe(target)
    assert (info.codec, info.pixel_format) == ("h264", "yuv420p")
    assert info.color.startswith("tv, bt709")
    content = target.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "not ready to be streamed"


@pytest.mark.parametrize("through", ["frames", "overlay"])
@pytest.mark.parametrize(
    "color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (12, 200, 90), (255, 255, 255), (0, 0, 0)]
)
def test_colours_survive(tmp_path: Path, color: tuple[int, int, int], through: str) -> None:
    """With the matrix of another standard they would be up to 30 levels off."""
    frames = np.full((3, 48, 64, 3), color if through == "frames" else 77, np.uint8)
    overlay = None if through == "frames" else Image.new("RGBA", (64, 48), (*color, 255))
    target = encode(frames, tmp_path / "a.mp4", settings=BEST, overlay=overlay)
    for frame in decode_frames(target):
        assert np.abs(frame.astype(int) - color).max() <= 2


def test_scaling_is_lanczos(tmp_path: Path) -> None:
    source = drift(2, 64, 48)
    target = encode(source, tmp_path / "a.mp4", output_size=(160, 120), settings=BEST)
    expected = Image.fromarray(source[1]).resize((160, 120), Image.Resampling.LANCZOS).convert("L")
    got = Image.fromarray(list(decode_frames(target))[1]).convert("L")
    assert np.abs(np.asarray(got, int) - np.asarray(expected, int)).mean() < 1.0


def test_letters_are_drawn_after_scaling(tmp_path: Path) -> None:
    """One-pixel lines stay one pixel wide though the frames are scaled four times."""
    overlay = Image.new("RGBA", (256, 192))
    draw = ImageDraw.Draw(overlay)
    for x in range(101, 200, 4):
        draw.line((x, 61, x, 131), fill=(255, 255, 255, 255))
    frames = np.full((3, 48, 64, 3), 60, np.uint8)
    target = encode(
        frames, tmp_path / "a.mp4", output_size=(256, 192), settings=BEST, overlay=overlay
    )
    row = list(decode_frames(target))[2][96].mean(axis=1)
    assert row[101:200:4].min() > 245
    assert row[103:200:4].max() < 70
    assert np.abs(row[:98] - 60).max() <= 2


def test_half_transparent_letters_are_mixed(tmp_path: Path) -> None:
    overlay = Image.new("RGBA", (64, 48))
    overlay.paste((255, 255, 255, 128), (10, 10, 40, 40))
    frames = np.full((2, 48, 64, 3), 100, np.uint8)
    frame = list(decode_frames(encode(frames, tmp_path / "a.mp4", overlay=overlay)))[1]
    assert np.abs(frame[16:34, 16:34].astype(int) - 178).max() <= 3
    assert np.abs(frame[42:, 44:].astype(int) - 100).max() <= 3


def test_an_empty_overlay_changes_nothing(tmp_path: Path) -> None:
    plain = encode(drift(3), tmp_path / "a.mp4")
    empty = encode(drift(3), tmp_path / "b.mp4", overlay=Image.new("RGBA", (64, 48)))
    assert plain.read_bytes() == empty.read_bytes()


@pytest.mark.parametrize(
    "overlay", [Image.new("RGBA", (32, 48), "red"), Image.new("L", (64, 48), 9)]
)
def test_an_overlay_of_another_kind_is_refused(tmp_path: Path, overlay: Image.Image) -> None:
    with pytest.raises(MediaFailed, match="overlay"):
        encode(drift(3), tmp_path / "a.mp4", overlay=overlay.convert(overlay.mode))
    assert not (tmp_path / "a.mp4").exists()


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    first = encode(drift(14), tmp_path / "a.mp4", comment="same")
    second = encode(drift(14), tmp_path / "b.mp4", comment="same")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "comment",
    [
        json.dumps({"title": "Lesson 3: Ünïcödé 日本語 🎬", "quote": "\"'`"}, ensure_ascii=False),
        "first line\nsecond = line ; # no comment\r\n[section]\n\ttab \\ backslash\\",
        json.dumps({"prompt": 'é"\\\n' * 12_000}, ensure_ascii=False),
        " spaces around ",
    ],
    ids=["unicode", "lines", "60 KB", "spaces"],
)
def test_the_comment_survives(tmp_path: Path, comment: str) -> None:
    target = encode(drift(2), tmp_path / "a.mp4", comment=comment)
    assert read_comment(target) == comment
    assert probe(target).comment == comment


def test_without_a_comment_there_is_none(tmp_path: Path) -> None:
    assert read_comment(encode(drift(2), tmp_path / "a.mp4")) == ""


@pytest.mark.parametrize("comment", ["a\0b", "half a pair: \ud83c"])
def test_an_impossible_comment_is_refused(tmp_path: Path, comment: str) -> None:
    with pytest.raises(MediaFailed, match="a comment cannot hold"):
        encode(drift(2), tmp_path / "a.mp4", comment=comment)
    assert list(tmp_path.glob("*.mp4")) == []


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (0, 48), (64, -2)])
def test_odd_sizes_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(MediaFailed, match="even sides"):
        encode(drift(2), tmp_path / "a.mp4", output_size=size)
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize("fps", [0, -7, float("nan"), float("inf")])
def test_a_meaningless_rate_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(MediaFailed, match="frames a second"):
        encode(drift(2), tmp_path / "a.mp4", fps=fps)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 48, 32, 3), np.uint8),
        np.zeros((2, 48, 64, 4), np.uint8),
        np.zeros((48, 64, 3), np.uint8),
        np.zeros((2, 48, 64, 3), np.float32),
    ],
)
def test_frames_not_as_declared_are_refused(tmp_path: Path, frames: Any) -> None:
    with pytest.raises(MediaFailed, match="was declared"):
        encode(frames, tmp_path / "a.mp4", source_size=(64, 48), output_size=(64, 48))
    assert not (tmp_path / "a.mp4").exists()


def test_no_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaFailed, match="no frames"):
        encode(np.zeros((0, 48, 64, 3), np.uint8), tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


def test_frames_are_streamed_and_counted(tmp_path: Path) -> None:
    """No chunk is asked for before the last was taken; strided ones are taken as they are."""
    told: list[int] = []
    asked: list[int] = []

    def chunks() -> Iterator[Frames]:
        source = drift(9)[:, :, ::-1]
        for start in range(0, 9, 3):
            asked.append(len(told))
            yield source[start : start + 3]

    encoded = encode_video(
        chunks(),
        source_size=(64, 48),
        output_size=(64, 48),
        fps=7,
        target=tmp_path / "a.mp4",
        settings=FAST,
        on_frame=told.append,
    )
    assert asked == [0, 3, 6]
    assert told == list(range(1, 10))
    assert encoded.frames == 9
    assert encoded.seconds > 0
    middle = next(decode_frames(tmp_path / "a.mp4"))
    assert middle[16, 56, 2] < 110 < middle[16, 56, 0]


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="missing"):
        encode(drift(2), tmp_path / "missing" / "a.mp4")


def test_a_full_device(tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        encode(drift(14), tmp_path / "full")
    assert Path("/dev/full").exists()


@pytest.mark.parametrize("signalled", [True, False], ids=["killed", "told"])
def test_a_file_that_may_not_grow(
    fake_ffmpeg: Callable[[str], Path],
    tmp_path: Path,
    signalled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The nearest thing to a full disk that needs no disk: a limit of 4 KiB for files."""
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    real = ffmpeg.executable()
    ignore = "" if signalled else "trap '' XFSZ; "
    fake_ffmpeg(f'{ignore}ulimit -f 8; exec "{real}" "$@"')
    noise = np.random.default_rng(0).integers(0, 255, (14, 48, 64, 3), dtype=np.uint8)
    with pytest.raises(DiskFull) as caught:
        encode(noise, tmp_path / "a.mp4")
    assert "a.mp4" in caught.value.message
    assert not (tmp_path / "a.mp4").exists()


def test_cancelling_midway_leaves_nothing(
    tmp_path: Path, temporary_folder: Path, no_children: Callable[[], bool]
) -> None:
    seen = 0

    def count(done: int) -> None:
        nonlocal seen
        seen = done

    def check() -> None:
        if seen >= 5:
            raise Cancelled("cancelled by the caller")

    with pytest.raises(Cancelled):
        encode(drift(14), tmp_path / "a.mp4", check=check, on_frame=count)
    assert not (tmp_path / "a.mp4").exists()
    assert list(temporary_folder.iterdir()) == []
    assert no_children()


def test_ffmpeg_killed_midway_leaves_nothing(
    fake_ffmpeg: Callable[[str], Path],
    tmp_path: Path,
    temporary_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    pid_in: Callable[[Path], int],
) -> None:
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    real = ffmpeg.executable()
    fake_ffmpeg(f'echo $$ > {tmp_path}/pid; exec "{real}" "$@"')

    def kill(done: int) -> None:
        if done == 3:
            os.kill(pid_in(tmp_path / "pid"), signal.SIGKILL)

    with pytest.raises(MediaFailed, match="killed by signal 9"):
        encode(drift(14), tmp_path / "a.mp4", on_frame=kill)
    assert not (tmp_path / "a.mp4").exists()
    assert list(temporary_folder.iterdir()) == []


def test_a_hanging_ffmpeg_leaves_nothing(
    fake_ffmpeg: Callable[[str], Path], tmp_path: Path, no_children: Callable[[], bool]
) -> None:
    fake_ffmpeg("sleep 60")
    with pytest.raises(MediaFailed, match="was ended"):
        encode(drift(14), tmp_path / "a.mp4", deadline_s=0.3)
    assert not (tmp_path / "a.mp4").exists()
    assert no_children()
