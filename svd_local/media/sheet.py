"""A contact sheet: a few frames of a clip side by side in one JPEG, and its first as a thumbnail."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from svd_local.errors import MediaFailed
from svd_local.media import ffmpeg
from svd_local.media.files import discard, write
from svd_local.media.probe import decode_frames, probe

QUALITY = 80
GAP = 2
"""Pixels between two frames, black."""


def write_sheet(
    video: Path,
    sheet: Path,
    *,
    thumbnail: Path | None = None,
    frames: int | None = None,
    tiles: int = 5,
    tile_width: int = 240,
    thumbnail_width: int = 480,
    check: ffmpeg.Check | None = None,
) -> int:
    """Write ``tiles`` frames of ``video``, evenly spread from its first to its last, to ``sheet``.

    The file is decoded once; only the frames that are shown are converted.

    Args:
        video: through the same door as any video: see ``probe``.
        sheet: a JPEG; replaced where it exists, removed where writing fails.
        thumbnail: where the first frame goes, ``thumbnail_width`` wide at most; None: nowhere.
        frames: how many the video holds, where that is known; else they are counted.
        tiles: at most so many; a video of fewer frames gives them all.
        tile_width: pixels; the height follows the video.
        check: called often; what it raises ends ffmpeg.

    Returns:
        How many frames the sheet shows.

    Raises:
        MediaFailed: it is no video, is damaged, or holds no frame.
        DiskFull: no room for the file.
        StorageFailed: it cannot be written.
    """
    total = frames or probe(video, check=check).frames
    pictures = [
        Image.fromarray(frame)
        for frame in decode_frames(video, only=spread(total, tiles), check=check)
    ]
    if not pictures:
        raise MediaFailed(f"{video} holds no video frame", hint="Have the clip made again.")
    written: list[Path] = []
    try:
        for path, picture in (
            (sheet, _side_by_side([_scaled(picture, tile_width) for picture in pictures])),
            (thumbnail, _scaled(pictures[0], min(thumbnail_width, pictures[0].width))),
        ):
            if path is not None:
                written.append(path)
                write(path, _jpeg(picture))
    except BaseException:
        for path in written:
            discard(path)
        raise
    return len(pictures)


def spread(total: int, wanted: int) -> list[int]:
    """Numbers of ``wanted`` of ``total`` frames, evenly spread, the first and the last among them."""
    if wanted >= total:
        return list(range(total))
    if wanted < 2:
        return [0]
    return [round(place * (total - 1) / (wanted - 1)) for place in range(wanted)]


def _scaled(picture: Image.Image, width: int) -> Image.Image:
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    width, height = pictures[0].size
    sheet = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height))
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (place * (width + GAP), 0))
    return sheet


def _jpeg(picture: Image.Image) -> bytes:
    # Made in memory: Pillow reports a full disk as an encoder's error, without its number.
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=QUALITY, optimize=True)
    return jpeg.getvalue()
