"""A still's frames are what resampling it in RGB and converting the result would give."""

import numpy as np
import pytest
from PIL import Image

from svd_local.media.planar import planes, split
from svd_local.tiers.stills.still import Still, from_rgb

SIZE = (128, 72)
BICUBIC = Image.Resampling.BICUBIC
BOXES = [(0, 0, 160, 90), (3.3, 1.7, 150.1, 84.3), (20.25, 8.5, 153.6, 83.5), (26.7, 15, 160, 90)]


@pytest.fixture(scope="module")
def picture():
    y, x = np.mgrid[0:90, 0:160].astype(float)
    waves = [(19, 23), (31, 13), (17, 41)]
    levels = np.stack([127 + 100 * np.sin(x / a + y / b) for a, b in waves], axis=-1)
    return Image.fromarray(np.rint(levels).astype(np.uint8))


def siting(plane):
    """A full-size plane at the places where H.264 has its chroma: on even columns, between rows."""
    values = np.pad(np.asarray(plane, float), ((0, 0), (1, 1)), mode="edge")
    across = (values[:, :-2] + 2 * values[:, 1:-1] + values[:, 2:])[:, ::2] / 4
    return (across[::2] + across[1::2]) / 2


@pytest.mark.parametrize("box", BOXES)
def test_luma_and_chroma_are_where_they_belong(picture, box):
    rgb = picture.resize(SIZE, BICUBIC, box=box)
    luma, *chroma = planes(Still(picture).frame(box, SIZE))
    exact, *wide = split(rgb)
    assert np.abs(luma.astype(int) - np.asarray(exact)).max() <= 2
    for plane, full in zip(chroma, wide, strict=True):
        assert np.abs(plane - siting(full)).max() < 3
        assert np.abs(plane - siting(full)).mean() < 0.8


def test_chroma_half_a_pixel_aside_would_be_seen(picture):
    """The test above tells left-aligned chroma from centred."""
    cb = planes(Still(picture).frame(BOXES[0], SIZE))[1]
    wide = np.asarray(split(picture.resize(SIZE, BICUBIC))[1], float)
    centred = wide.reshape(36, 2, 64, 2).mean((1, 3))
    assert np.abs(cb - centred).mean() > 2 * np.abs(cb - siting(wide)).mean()


def test_a_colour_stays_itself_up_to_every_border():
    still = Still(Image.new("RGB", (161, 91), (200, 40, 90)))
    for plane in planes(still.frame((0, 0, 161, 91), SIZE)):
        assert np.ptp(plane) == 0


def test_a_frame_of_rgb_becomes_the_same(picture):
    frame = Still(picture).rgb((0, 0, 160, 90), (160, 90))
    luma, *chroma = planes(from_rgb(frame))
    exact, *wide = split(picture)
    assert np.array_equal(luma, np.asarray(exact))
    for plane, full in zip(chroma, wide, strict=True):
        assert np.abs(plane - siting(full)).mean() < 0.8
