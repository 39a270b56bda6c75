"""The one door that opens pictures nobody vouches for.

What comes out is plain: RGB, upright, without metadata. What could harm is refused before any pixel
is decoded: anything but a regular file, files above 64 MB, formats not on the list, sizes above 24
megapixels. Animated pictures and documents of several pages are refused rather than cut down to
their first frame in silence.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from svd_local.errors import ImageRejected

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 64 * 1000 * 1000
MAX_PIXELS = 24 * 1000 * 1000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_KINDS = "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"

# Pillow keeps its guards (warning filters, tolerance of truncation) in globals.
_PILLOW = threading.Lock()


def open_picture(
    source: Path | bytes, *, background: str = "#ffffff", field: str = "image"
) -> Image:
    """The picture at ``source`` (a path, or a file's bytes) as an upright RGB image.

    EXIF orientation is applied, an embedded colour profile (CMYK too) is converted to sRGB, 16 bits
    are scaled to 8, and whatever is transparent shows ``background`` (#rrggbb). The result carries
    no metadata.

    Raises:
        ImageRejected: it cannot be read, is no picture of a known kind, damaged, animated, or
            larger than 64 MB or 24 megapixels. ``field`` names the request's field.
    """
    return open_with_digest(source, background=background, field=field)[0]


def open_with_digest(
    source: Path | bytes, *, background: str = "#ffffff", field: str = "image"
) -> tuple[Image, str]:
    """As ``open_picture``, with the file's ``picture_digest``; the file is read once.

    Raises:
        ImageRejected: as ``open_picture`` does.
    """
    from PIL import Image

    image, digest = _open(source, field)
    if image.mode == "RGB":
        return image, digest
    flat = Image.new("RGB", image.size, background)
    flat.paste(image, mask=image.getchannel("A"))
    return flat, digest


def open_logo(source: Path | bytes, *, field: str = "logo") -> Image:
    """As ``open_picture``, but RGBA: what is transparent stays so.

    Raises:
        ImageRejected: as ``open_picture`` does.
    """
    return _open(source, field)[0].convert("RGBA")


def _open(source: Path | bytes, field: str) -> tuple[Image, str]:
    """The picture (RGB, or RGBA where it has transparency; upright, nothing attached) and its
    digest.
    """
    data = read_picture(source, field=field)
    name = _name(source)
    with _guarded():
        try:
            return _decode(data, name, field), hashlib.sha256(data).hexdigest()
        except ImageRejected:
            raise
        except Exception as error:  # whatever a decoder trips over, the picture is at fault
            raise _damaged(field, name, error) from error


def check_picture(path: Path, *, field: str = "image") -> None:
    """Refuse a file that ``open_picture`` would refuse for what its header tells; no pixel is decoded.

    Raises:
        ImageRejected: it cannot be read, is no picture of a known kind, animated, or too large.
    """
    name = _name(path)
    with _opened(path, name, field) as file, _guarded():
        if not file.read(1):
            _refuse(field, f"{name} is empty", "Give a picture file.")
        file.seek(0)
        try:
            _from_header(file, name, field)
        except ImageRejected:
            raise
        except Exception as error:  # whatever a decoder trips over, the picture is at fault
            raise _damaged(field, name, error) from error


def picture_digest(source: Path | bytes, *, field: str = "image") -> str:
    """SHA-256, in hex, of the file's bytes.

    Raises:
        ImageRejected: as ``open_picture`` does for what cannot be read.
    """
    return hashlib.sha256(read_picture(source, field=field)).hexdigest()


def read_picture(source: Path | bytes, *, field: str = "image") -> bytes:
    """The bytes of a picture file, at most 64 MB, without waiting for pipes or devices.

    Raises:
        ImageRejected: missing, unreadable, not a regular file, empty or too large.
    """
    name = _name(source)
    data = source if isinstance(source, bytes) else _read_file(source, name, field)
    if not data:
        _refuse(field, f"{name} is empty", "Give a picture file.")
    if len(data) > MAX_BYTES:
        _refuse(field, f"{name} is larger than 64 MB", "Save it smaller, as JPEG for example.")
    return data


def _read_file(path: Path, name: str, field: str) -> bytes:
    """At most ``MAX_BYTES`` + 1 bytes of a regular file."""
    with _opened(path, name, field) as file:
        return file.read(MAX_BYTES + 1)


@contextmanager
def _opened(path: Path, name: str, field: str) -> Iterator[BinaryIO]:
    """A regular file of at most ``MAX_BYTES``, open for reading."""
    try:
        # Non-blocking, or opening a pipe without a writer would wait for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        _refuse(field, f"{name} does not exist", f"Check the path {str(path)!r}.")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        _refuse(field, f"{name} cannot be read: {reason}", "Check the path and its permissions.")
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            _refuse(field, f"{name} is a folder", "Give one picture file.")
        if not stat.S_ISREG(status.st_mode):
            _refuse(field, f"{name} is no regular file", "Give a picture file, no pipe or device.")
        if status.st_size > MAX_BYTES:
            _refuse(field, f"{name} is larger than 64 MB", "Save it smaller, as JPEG for example.")
        with open(handle, "rb", closefd=False) as file:
            yield file
    except OSError as error:
        _refuse(field, f"{name} cannot be read: {error.strerror}", "Check the disk it is on.")
    finally:
        os.close(handle)


@contextmanager
def _guarded() -> Iterator[None]:
    """Pillow's guards up: a bomb is an error, a truncated file too, its other remarks are silent."""
    from PIL import Image, ImageFile

    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        tolerant = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = tolerant


def _decode(data: bytes, name: str, field: str) -> Image:
    image = _from_header(io.BytesIO(data), name, field)
    image.load()
    return _plain(_upright(image), name, field)


def _from_header(file: BinaryIO, name: str, field: str) -> Image:
    """The picture as its header tells of it: of a known kind, one page, not too large; not decoded."""
    from PIL import Image, UnidentifiedImageError

    too_large = "Scale it down: a clip needs no more than 2 megapixels."
    try:
        # A WebP's decoder takes memory for the whole canvas while the header is read.
        if _webp_pixels(file.read(30)) > MAX_PIXELS:
            _refuse(field, f"{name} has more than 24 megapixels", too_large)
        file.seek(0)
        image = Image.open(file, formats=_openable())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        _refuse(field, f"{name} has more than 24 megapixels", too_large)
    except UnidentifiedImageError:
        _refuse(
            field,
            f"{name} is no picture of a known kind, or its header is damaged",
            f"Give a {_KINDS} file.",
        )
    width, height = image.size
    if width * height > MAX_PIXELS:
        _refuse(field, f"{name} has {width}x{height} pixels, more than 24 megapixels", too_large)
    # Phones write several JPEGs into one file (MPO), of which the first is the photo.
    count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if count > 1:
        _refuse(
            field,
            f"{name} is animated or has several pages ({count})",
            "Save the frame or page you want as PNG.",
        )
    return image


@functools.cache
def _openable() -> tuple[str, ...]:
    """Those of the formats that are taken which this Pillow was built with."""
    from PIL import Image

    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _webp_pixels(data: bytes) -> int:
    """The canvas a WebP's header tells, in pixels; 0 for anything else. At most 16384 x 16384."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return 0
    if data[12:16] == b"VP8X":
        sides = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    elif data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        sides = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        lossy = int.from_bytes(data[26:30], "little")
        sides = lossy & 0x3FFF, lossy >> 16 & 0x3FFF
    return sides[0] * sides[1]


def _upright(image: Image) -> Image:
    """``image`` turned as its EXIF orientation asks; a damaged EXIF block asks for nothing."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001 - the pixels are sound, only the remark about them is not
        turn = None
    if turn is None:
        return image
    info = image.info
    turned = image.transpose(turn)
    turned.info = info
    return turned


def _plain(image: Image, name: str, field: str) -> Image:
    """8 bits, sRGB primaries, RGB or RGBA, nothing attached."""
    from PIL import Image

    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _eight_bits(image, name, field)
    image = _to_srgb(image, "RGBA" if image.has_transparency_data else "RGB")
    clean = Image.new(image.mode, image.size)
    clean.paste(image)
    return clean


def _eight_bits(image: Image, name: str, field: str) -> Image:
    """16-bit grey as 8-bit grey: the full range scaled, where Pillow's own conversion clips."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    if values.dtype.itemsize != 2:
        _refuse(
            field,
            f"{name} holds 32-bit samples, which have no fixed range",
            "Save it as an 8- or 16-bit PNG.",
        )
    grey = Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _to_srgb(image: Image, mode: str) -> Image:
    """``image`` in ``mode`` (RGB or RGBA), through its colour profile where it has a usable one."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert(mode)
    alpha = image.convert("RGBA").getchannel("A") if mode == "RGBA" else None
    if image.mode not in ("RGB", "CMYK", "L", "LAB"):
        image = image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")
    from PIL import ImageCms

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" not in ImageCms.getProfileDescription(own):
            standard = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, own, standard, outputMode="RGB")
            image = image if converted is None else converted
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError):
        pass  # no profile of this picture's kind, or no colour management here: plain conversion
    image = image.convert("RGB")
    if alpha is not None:
        image.putalpha(alpha)
    return image


def _name(source: Path | bytes) -> str:
    """How messages call it: the file's name, control characters escaped."""
    return "the picture given as bytes" if isinstance(source, bytes) else repr(source.name or ".")


def _damaged(field: str, name: str, error: Exception) -> ImageRejected:
    return ImageRejected(
        f"{field}: {name} is damaged or incomplete: {_first_line(error)}",
        hint="Open it in an image editor and save it again as PNG or JPEG.",
        field=field,
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _refuse(field: str, what: str, hint: str) -> NoReturn:
    raise ImageRejected(f"{field}: {what}", hint=hint, field=field)
