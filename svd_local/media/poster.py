"""One frame as a JPEG: what a page shows before the video plays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from svd_local.errors import MediaFailed
from svd_local.media.files import discard, write

QUALITY = 90


def write_poster(
    frame: np.ndarray[Any, np.dtype[np.uint8]] | Image.Image,
    path: Path,
    *,
    overlay: Image.Image | None = None,
    size: tuple[int, int] | None = None,
) -> None:
    """Write ``frame`` to ``path`` as a JPEG, full chroma, progressive, without metadata.

    Args:
        frame: uint8 array of shape (height, width, 3), RGB, or a picture.
        path: replaced where it exists, removed where writing fails.
        overlay: RGBA, of the poster's size, laid over the frame after scaling.
        size: the poster's width and height; the frame's own where None. Reached by Lanczos.

    Raises:
        MediaFailed: the array is no frame, or the overlay is of another size.
        DiskFull: no room for the file.
        StorageFailed: it cannot be written.
    """
    picture = _picture(frame)
    if size is not None and picture.size != size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    if overlay is not None:
        if overlay.size != picture.size or overlay.mode != "RGBA":
            raise MediaFailed(
                f"an overlay of {overlay.mode} {overlay.size} came for a poster of {picture.size}",
                hint="Draw it as RGBA, at the poster's size.",
            )
        picture = Image.alpha_composite(picture.convert("RGBA"), overlay).convert("RGB")
    # Made in memory: Pillow reports a full disk as an encoder's error, without its number.
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=QUALITY, subsampling=0, optimize=True, progressive=True)
    try:
        write(path, jpeg.getvalue())
    except BaseException:
        discard(path)
        raise


def _picture(frame: np.ndarray[Any, np.dtype[np.uint8]] | Image.Image) -> Image.Image:
    """A new RGB picture without the metadata a source picture may carry."""
    if isinstance(frame, Image.Image):
        return Image.fromarray(np.asarray(frame.convert("RGB")))
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise MediaFailed(
            f"{frame.dtype} {frame.shape} is no frame: uint8 (height, width, 3) was expected",
            hint="Pass one frame of a chunk, as chunk[0].",
        )
    return Image.fromarray(np.ascontiguousarray(frame))
