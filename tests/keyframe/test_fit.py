"""Pictures of any shape come to size without being stretched."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from svd_local.keyframe.fit import fit


def circle(size: tuple[int, int], centre: tuple[float, float] | None = None) -> Image.Image:
    """A black disc on white, a quarter of the shorter side in radius."""
    image = Image.new("RGB", size, "white")
    x, y = centre or (size[0] / 2, size[1] / 2)
    radius = min(size) / 4
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill="black")
    return image


def extent(image: Image.Image) -> tuple[float, float]:
    """Width and height of what is dark, in fractions of a pixel."""
    dark = 1 - np.asarray(image.convert("L"), float) / 255
    return float(dark.max(0).sum()), float(dark.max(1).sum())


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("shape", [(900, 1200), (1200, 900), (700, 700), (1920, 1080), (3000, 800)])
@pytest.mark.parametrize("size", [(1024, 576), (576, 1024), (256, 144)])
def test_a_circle_stays_a_circle(mode: str, shape: tuple[int, int], size: tuple[int, int]) -> None:
    # Where a tall picture loses height, more is cut below: the disc stands where it stays whole.
    fitted = fit(circle(shape, (shape[0] / 2, shape[1] * 0.46)), size, mode)
    assert (fitted.size, fitted.mode) == (size, "RGB")
    if mode == "pad":  # the whole picture, without its blurred surroundings
        scale = min(size[0] / shape[0], size[1] / shape[1])
        inner = round(shape[0] * scale), round(shape[1] * scale)
        left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        fitted = fitted.crop((left, top, left + inner[0], top + inner[1]))
    width, height = extent(fitted)
    if max(width, height) < min(size) - 2:  # not cut by the frame
        assert width == pytest.approx(height, abs=2.0)
    else:
        assert mode == "crop"


def test_crop_covers_the_frame_and_keeps_the_middle() -> None:
    bars = Image.new("RGB", (300, 100))
    for index, tint in enumerate(("red", "lime", "blue")):
        bars.paste(tint, (index * 100, 0, index * 100 + 100, 100))
    square = fit(bars, (64, 64))
    assert square.crop((8, 0, 56, 64)).getcolors() == [(48 * 64, (0, 255, 0))]


def test_a_tall_picture_is_cropped_a_little_above_its_middle() -> None:
    ramp = Image.linear_gradient("L").resize((90, 900)).convert("RGB")
    shown = np.asarray(fit(ramp, (160, 90)).convert("L"), float).mean() / 255
    assert 0.35 < shown < 0.48


def test_pad_shows_the_whole_picture_over_its_blurred_self() -> None:
    picture = Image.new("RGB", (100, 200), "red")
    ImageDraw.Draw(picture).rectangle((0, 0, 99, 9), fill="blue")
    padded = fit(picture, (320, 160), "pad")
    middle = padded.crop((120, 0, 200, 160))
    assert padded.getpixel((160, 3))[2] > 200  # the topmost stripe is there
    assert padded.getpixel((160, 158))[0] > 250
    edge = np.asarray(padded.crop((0, 0, 110, 160)), int)
    assert edge[..., 0].mean() > 120  # of the picture's colours
    assert edge[..., 0].max() < np.asarray(middle, int)[..., 0].max()  # and darker than it


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1)])
def test_extreme_shapes_take_no_room(mode: str, shape: tuple[int, int]) -> None:
    fitted = fit(Image.new("RGB", shape, "#336699"), (256, 144), mode)
    assert fitted.size == (256, 144)


def test_the_right_size_is_left_alone() -> None:
    noise = np.random.RandomState(1).randint(0, 256, (90, 160, 3)).astype(np.uint8)
    assert np.array_equal(np.asarray(fit(Image.fromarray(noise), (160, 90), "pad")), noise)


def test_reduction_is_smoothed() -> None:
    """A fine checkerboard becomes grey instead of a coarser pattern."""
    board = (np.indices((1152, 2048)).sum(0) % 2 * 255).astype(np.uint8)
    reduced = np.asarray(fit(Image.fromarray(board).convert("RGB"), (500, 281)), int)
    assert reduced.std() < 3
