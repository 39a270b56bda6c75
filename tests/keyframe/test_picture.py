"""The door for untrusted pictures: what it takes comes out plain, what could harm stays outside."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from svd_local.errors import ImageRejected
from svd_local.keyframe.picture import (
    MAX_BYTES,
    open_logo,
    open_picture,
    open_with_digest,
    picture_digest,
)

RED, GREEN = (255, 0, 0), (0, 128, 0)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A well-formed PNG that promises more pixels than it holds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def webp_header(kind: bytes, width: int, height: int) -> bytes:
    """Each of WebP's three layouts, cut off after its header."""
    if kind == b"VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little") + bytes(5)
    else:
        body = b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height)
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_takes_the_usual_formats(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{kind.lower()}"
    path.write_bytes(encoded(Image.new("RGB", (40, 30), RED), kind))
    picture = open_picture(path)
    assert (picture.mode, picture.size) == ("RGB", (40, 30))
    assert np.abs(np.asarray(picture, int) - RED).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(mode: str) -> None:
    ramp = Image.linear_gradient("L")
    image = (
        Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257)
        if mode == "I;16"
        else ramp.convert(mode)
    )
    picture = open_picture(encoded(image, "TIFF"))
    assert picture.mode == "RGB"
    got = np.asarray(picture.convert("L"), int)
    if mode == "1":
        assert set(np.unique(got)) == {0, 255}
        assert got[:40].mean() < 64 < 192 < got[-40:].mean()
    else:
        assert np.abs(got - np.asarray(ramp, int)).max() <= 2


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (0x0180, 1), (0x8000, 128), (0xFFFF, 255)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str, value: int, expected: int) -> None:
    data = encoded(Image.fromarray(np.full((4, 4), value, np.uint16)), kind)
    assert open_picture(data).getpixel((1, 1)) == (expected,) * 3


def test_a_big_endian_tiff_has_the_same_values() -> None:
    data = encoded(Image.fromarray(np.full((4, 4), 0x40FF, ">u2")), "TIFF")
    assert open_picture(data).getpixel((0, 0)) == (65, 65, 65)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(ImageRejected, match="32-bit"):
        open_picture(encoded(Image.new(mode, (4, 4)), "TIFF"))


def test_what_is_transparent_shows_the_background() -> None:
    image = Image.new("RGBA", (4, 2), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (2, 0, 4, 2))
    picture = open_picture(encoded(image, "PNG"), background="#008000")
    assert picture.getpixel((0, 0)) == RED
    assert picture.getpixel((3, 0)) == GREEN


def test_half_transparent_is_half_background() -> None:
    data = encoded(Image.new("LA", (2, 2), (0, 128)), "PNG")
    assert open_picture(data, background="#ffffff").getpixel((0, 0)) == (127, 127, 127)


def test_a_palette_with_a_transparent_entry_is_flattened() -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (2, 0, 4, 2))
    for kind in ("PNG", "GIF"):
        picture = open_picture(encoded(image, kind, transparency=1), background="#008000")
        assert picture.getpixel((0, 0)) == RED
        assert picture.getpixel((3, 1)) == GREEN


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [
        (1, (0, 0)),
        (2, (1, 0)),
        (3, (1, 1)),
        (4, (0, 1)),
        (5, (0, 0)),
        (6, (1, 0)),
        (7, (1, 1)),
        (8, (0, 1)),
    ],
)
def test_exif_orientation_is_applied(orientation: int, corner: tuple[int, int]) -> None:
    """The stored picture's upper left is red; after turning it is in the corner EXIF means."""
    image = Image.new("RGB", (60, 40), "white")
    image.paste(RED, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = open_picture(encoded(image, "PNG", exif=exif))
    assert picture.size == ((60, 40) if orientation < 5 else (40, 60))
    at = corner[0] * (picture.width - 1), corner[1] * (picture.height - 1)
    assert picture.getpixel(at) == RED


def test_a_damaged_exif_block_costs_nothing() -> None:
    data = encoded(
        Image.new("RGB", (8, 8), RED), "PNG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff"
    )
    assert open_picture(data).getpixel((0, 0)) == RED


def test_metadata_is_dropped() -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera and its owner"
    picture = open_picture(encoded(Image.new("RGB", (8, 8)), "JPEG", exif=exif, comment=b"secret"))
    assert picture.info == {}
    assert dict(picture.getexif()) == {}


def exchanged_profile() -> bytes:
    """sRGB's profile under another name, its red and green primaries exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))
    return profile.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_an_embedded_profile_is_converted_to_srgb(mode: str) -> None:
    image = Image.new("RGB", (4, 4), RED).convert(mode)
    picture = open_picture(encoded(image, "PNG", icc_profile=exchanged_profile()))
    assert max(abs(a - b) for a, b in zip(picture.getpixel((1, 1)), (0, 255, 0), strict=True)) <= 2


def test_an_unusable_profile_costs_nothing() -> None:
    image = Image.new("RGB", (4, 4), RED)
    for profile in (exchanged_profile()[:60], b"no profile"):
        picture = open_picture(encoded(image, "PNG", icc_profile=profile))
        assert picture.getpixel((0, 0)) == RED
    grey = Image.new("CMYK", (4, 4), (0, 0, 0, 255))  # an RGB profile does not fit CMYK
    picture = open_picture(encoded(grey, "TIFF", icc_profile=exchanged_profile()))
    assert picture.getpixel((0, 0)) == (0, 0, 0)


def test_an_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = np.random.RandomState(3).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    picture = open_picture(encoded(Image.fromarray(noise), "PNG", icc_profile=profile))
    assert np.array_equal(np.asarray(picture), noise)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_and_pages_are_refused(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (0, 120, 240)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageRejected, match=r"animated or has several pages \(3\)") as caught:
        open_picture(data)
    assert "PNG" in caught.value.hint


def test_a_phones_double_jpeg_is_its_first_photo() -> None:
    frames = [Image.new("RGB", (8, 8), RED), Image.new("RGB", (4, 4), GREEN)]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert open_picture(data).size == (8, 8)


@pytest.mark.parametrize(
    "data",
    [
        png_header(20_000, 20_000),
        png_header(10_000, 10_000),
        png_header(6_000, 4_001),
        webp_header(b"VP8X", 16_383, 16_383),
        webp_header(b"VP8L", 16_383, 16_383),
        webp_header(b"VP8 ", 16_383, 16_383),
    ],
)
def test_huge_pictures_are_refused_from_their_header(data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with pytest.raises(ImageRejected, match="megapixels"):
        open_picture(data)
    assert time.monotonic() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_exactly_24_megapixels_are_taken() -> None:
    data = encoded(Image.new("1", (6000, 4000)), "PNG")
    assert open_picture(data).size == (6000, 4000)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_truncated_files_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even in a process where some other library told Pillow to put up with it."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    noise = np.random.RandomState(5).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / f"half.{kind.lower()}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageRejected, match=r"'half\.\w+'") as caught:
        open_picture(path)
    assert caught.value.field == "image"
    assert caught.value.hint
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_text_named_png_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lesson.png"
    path.write_text("this is no picture")
    with pytest.raises(ImageRejected, match=r"'lesson\.png' is no picture of a known kind"):
        open_picture(path)


@pytest.mark.parametrize(
    "text",
    ["%!PS-Adobe-3.0 EPSF-3.0\n", '<svg xmlns="http://www.w3.org/2000/svg"/>', "P6 1 1 255 abc"],
)
def test_formats_off_the_list_are_refused(text: str) -> None:
    with pytest.raises(ImageRejected, match="no picture of a known kind"):
        open_picture(text.encode())


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    started = time.monotonic()
    for path, words in (
        (pipe, "'pipe.png' is no regular file"),
        (Path("/dev/zero"), "'zero' is no regular file"),
        (tmp_path, "is a folder"),
        (tmp_path / "absent.png", "'absent.png' does not exist"),
        (tmp_path / "a\x00b.png", "cannot be read"),
    ):
        with pytest.raises(ImageRejected, match=words):
            open_picture(path)
    assert time.monotonic() - started < 2


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(ImageRejected, match=r"'empty\.png' is empty"):
        open_picture(path)


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.bmp"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ImageRejected, match="larger than 64 MB"):
        open_picture(path)
    with pytest.raises(ImageRejected, match="larger than 64 MB"):
        open_picture(bytes(MAX_BYTES + 1))


def test_the_digest_is_of_the_files_bytes(tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (8, 8), RED), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert picture_digest(path) == picture_digest(data) == expected
    assert open_with_digest(path)[1] == expected


def test_a_logo_keeps_its_transparency_and_names_its_field(tmp_path: Path) -> None:
    data = encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 100)), "PNG")
    assert open_logo(data).getpixel((0, 0)) == (255, 0, 0, 100)
    assert open_logo(encoded(Image.new("RGB", (4, 4)), "JPEG")).mode == "RGBA"
    with pytest.raises(ImageRejected) as caught:
        open_logo(tmp_path / "absent.png")
    assert caught.value.field == "logo"


def test_a_check_refuses_by_the_header_what_opening_refuses(tmp_path: Path) -> None:
    from svd_local.keyframe import check_picture

    good, short, text, pages = (tmp_path / name for name in ("a.png", "b.png", "c.png", "d.gif"))
    Image.effect_noise((300, 200), 50).save(good)
    short.write_bytes(good.read_bytes()[:20])
    text.write_text("no picture")
    first, second = Image.new("L", (9, 9)), Image.new("L", (9, 9), 255)
    first.save(pages, save_all=True, append_images=[second])
    check_picture(good)
    for path in (short, text, pages, tmp_path, tmp_path / "none.png"):
        with pytest.raises(ImageRejected, match="logo"):
            check_picture(path, field="logo")
        with pytest.raises(ImageRejected):
            open_picture(path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageRejected, match="is empty"):
        check_picture(tmp_path / "empty.png")
