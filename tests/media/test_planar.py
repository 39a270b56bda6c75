"""Luma and chroma are those of BT.709, and frames in that form come out as RGB frames do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from svd_local.media.binary import executable
from svd_local.media.encode import EncoderSettings, encode_video
from svd_local.media.planar import join, planes, split, to_rgb
from svd_local.media.probe import decode_frames

BEST = EncoderSettings(crf=1, preset="medium")
Frame = np.ndarray[Any, np.dtype[np.uint8]]


def moving_picture(count: int, width: int, height: int) -> Frame:
    """Smooth colours that drift: (count, height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [(23, 31), (41, 17), (29, 53)]
    frames = [
        np.stack([127 + 90 * np.sin((x + 2 * n) / a + y / b) for a, b in waves], axis=-1)
        for n in range(count)
    ]
    return np.stack(frames).astype(np.uint8)


def stored(path: Path, width: int, height: int) -> Frame:
    """What the file holds, not converted: (frames, height * 3 / 2, width)."""
    command = [str(executable()), "-v", "error", "-i", str(path), "-f", "rawvideo", "pipe:1"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height * 3 // 2, width)


def from_rgb(frame: Frame) -> Frame:
    """By arithmetic alone, chroma as the mean of its four pixels."""
    r, g, b = (frame[..., channel] / 255 for channel in range(3))
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    chroma = ((b - luma) / 1.8556, (r - luma) / 1.5748)
    height, width = luma.shape
    halves = (c.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for c in chroma)
    cb, cr = (np.rint(128 + 224 * half).astype(np.uint8) for half in halves)
    return join(np.rint(16 + 219 * luma).astype(np.uint8), cb, cr)


def encoded(
    frames: list[Frame], target: Path, size: tuple[int, int], **options: Any
) -> list[Frame]:
    given = {"source_size": size, "output_size": size, "fps": 7, "settings": BEST} | options
    encode_video([np.stack(frames)], target=target, **given)
    return list(decode_frames(target))


def test_a_picture_splits_as_the_standard_says() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    levels = np.stack([np.asarray(plane) for plane in split(Image.fromarray(noise))])
    r, g, b = (noise[..., channel] / 255 for channel in range(3))
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    exact = 16 + 219 * luma, 128 + 224 * (b - luma) / 1.8556, 128 + 224 * (r - luma) / 1.5748
    assert np.abs(levels - exact).max() <= 0.501


@pytest.mark.parametrize(
    ("colour", "levels"),
    [
        ((0, 0, 0), (16, 128, 128)),
        ((255, 255, 255), (235, 128, 128)),
        ((255, 0, 0), (63, 102, 240)),
        ((0, 255, 0), (173, 42, 26)),
        ((0, 0, 255), (32, 240, 118)),
    ],
)
def test_well_known_colours(colour: tuple[int, int, int], levels: tuple[int, int, int]) -> None:
    planes_of = split(Image.new("RGB", (2, 2), colour))
    assert tuple(plane.getpixel((0, 0)) for plane in planes_of) == levels


def test_a_frame_comes_back_from_its_planes_and_as_rgb() -> None:
    frame = moving_picture(1, 64, 48)[0]
    planar = from_rgb(frame)
    assert planar.shape == (72, 64)
    assert np.array_equal(join(*planes(planar)), planar)
    difference = np.abs(to_rgb(planar).astype(int) - frame)
    assert difference.mean() < 3
    assert np.array_equal(
        to_rgb(planar, slice(None, None, 3), slice(1, None, 5)), to_rgb(planar)[::3, 1::5]
    )


def test_a_planar_frame_is_encoded_as_it_is(tmp_path: Path) -> None:
    frame = from_rgb(moving_picture(1, 64, 48)[0])
    target = tmp_path / "a.mp4"
    encoded([frame] * 3, target, (64, 48), pixels="yuv420p")
    assert np.abs(stored(target, 64, 48)[1].astype(int) - frame).max() <= 1


@pytest.mark.parametrize("size", [(64, 48), (160, 120)])
def test_colours_are_those_of_the_same_frames_in_rgb(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = list(moving_picture(3, 64, 48))
    options: dict[str, Any] = {"source_size": (64, 48), "output_size": size}
    rgb = encoded(frames, tmp_path / "a.mp4", size, **options)
    planar = list(map(from_rgb, frames))
    got = encoded(planar, tmp_path / "b.mp4", size, pixels="yuv420p", **options)
    assert np.abs(got[1].astype(int) - rgb[1]).mean() < 1.5


def lettering(size: tuple[int, int]) -> Image.Image:
    overlay = Image.new("RGBA", size)
    draw = ImageDraw.Draw(overlay)
    draw.rectangle((41, 33, 90, 60), fill=(0, 0, 0, 140))
    for x in range(45, 88, 4):
        draw.line((x, 37, x, 56), fill=(255, 40, 40, 255))
    return overlay


def test_letters_on_planar_frames_look_like_those_on_rgb(tmp_path: Path) -> None:
    frames, size = list(moving_picture(3, 192, 96)), (192, 96)
    overlay = lettering(size)
    rgb = encoded(frames, tmp_path / "a.mp4", size, overlay=overlay)
    planar = list(map(from_rgb, frames))
    got = encoded(planar, tmp_path / "b.mp4", size, pixels="yuv420p", overlay=overlay)
    difference = np.abs(got[1].astype(int) - rgb[1])
    assert difference.mean() < 2
    assert difference[33:61, 41:91].mean() < 3


def test_letters_change_nothing_away_from_them(tmp_path: Path) -> None:
    frames, size = [from_rgb(frame) for frame in moving_picture(3, 192, 96)], (192, 96)
    options: dict[str, Any] = {"pixels": "yuv420p", "settings": EncoderSettings(0, "ultrafast")}
    encoded(frames, tmp_path / "a.mp4", size, **options)
    encoded(frames, tmp_path / "b.mp4", size, overlay=lettering(size), **options)
    plain, lettered = (planes(stored(tmp_path / f"{n}.mp4", *size)[1]) for n in "ab")
    for plane, other, half in zip(plain, lettered, (1, 2, 2), strict=True):
        changed = plane != other
        assert changed[40 // half : 50 // half, 45 // half : 85 // half].any()
        changed[16 // half : 80 // half, 24 // half : 110 // half] = False
        assert not changed.any()


@pytest.mark.parametrize("box", [(0, 0, 191, 95), (1, 1, 2, 2), (190, 94, 191, 95)])
def test_letters_may_reach_every_border(tmp_path: Path, box: tuple[int, int, int, int]) -> None:
    size = (192, 96)
    overlay = Image.new("RGBA", size)
    ImageDraw.Draw(overlay).rectangle(box, fill=(255, 255, 255, 255))
    frames = [from_rgb(np.full((96, 192, 3), 60, np.uint8))] * 2
    frame = encoded(frames, tmp_path / "a.mp4", size, pixels="yuv420p", overlay=overlay)[1]
    assert frame[box[1] : box[3] + 1, box[0] : box[2] + 1].min() > 240
