"""Frames into an MP4 that plays everywhere: H.264, yuv420p, bt709, even sides, faststart.

Frames are streamed: one is held at a time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from svd_local.errors import MediaFailed
from svd_local.media import ffmpeg, filters, metadata
from svd_local.media.files import discard, storage_error, working_folder, write

if TYPE_CHECKING:
    from PIL.Image import Image

Chunk = np.ndarray[Any, np.dtype[np.uint8]]

DEADLINE_S = 1800.0
STALL_S = 120.0
"""The longest wait for one frame to be taken, or for the file to be closed: far more than the slowest
preset takes on one core, far less than a night."""


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """What x264 is told. ``lookahead`` frames are held by it: 3 MB each at 1080p, several times over."""

    crf: int
    preset: str
    lookahead: int = 20


_BY_QUALITY: Mapping[str, EncoderSettings] = MappingProxyType(
    {
        "fast": EncoderSettings(crf=23, preset="veryfast", lookahead=10),
        "standard": EncoderSettings(crf=19, preset="medium"),
        "high": EncoderSettings(crf=16, preset="slow"),
    }
)
# Clips last seconds, so their files are small at any of these.


def encoder_settings(quality: str) -> EncoderSettings:
    """The setting for a request's quality: ``fast``, ``standard`` or ``high``.

    Raises:
        KeyError: another name.
    """
    return _BY_QUALITY[quality]


@dataclass(frozen=True, slots=True)
class Encoded:
    """How many frames ffmpeg took, and the seconds from the first to the closed file."""

    frames: int
    seconds: float


def encode_video(
    chunks: Iterable[Chunk],
    *,
    source_size: tuple[int, int],
    output_size: tuple[int, int],
    fps: float,
    target: Path,
    settings: EncoderSettings,
    pixels: filters.Pixels = "rgb24",
    overlay: Image | None = None,
    comment: str = "",
    check: ffmpeg.Check | None = None,
    on_frame: Callable[[int], None] | None = None,
    deadline_s: float = DEADLINE_S,
) -> Encoded:
    """Write ``target``, an MP4 of exactly the frames in ``chunks``, at a constant rate.

    Args:
        chunks: uint8 arrays of shape (n, height, width, 3), read once and in order. An array may be
            filled anew once the next is asked for.
        source_size: their width and height.
        output_size: width and height of the file, both even; reached by Lanczos.
        fps: frames per second.
        target: replaced where it exists, removed where writing fails.
        settings: x264's quality and effort; see ``encoder_settings``.
        pixels: ``rgb24``, or ``yuv420p`` for chunks of shape (n, height * 3 / 2, width), laid out as
            ``planar`` says, which are encoded as they are.
        overlay: RGBA, of ``output_size``, laid over every frame after scaling.
        comment: text for the container's ``comment``.
        check: called often; what it raises ends ffmpeg.
        on_frame: called with the number of frames taken so far.
        deadline_s: seconds ffmpeg may keep us waiting in all, the making of frames not counted.

    Raises:
        MediaFailed: ffmpeg failed or hung; a size is odd; a chunk is not as declared; no frames came.
        DiskFull: no room for the file.
        StorageFailed: the target cannot be written.
    """
    width, height = output_size
    if width <= 0 or height <= 0 or width % 2 or height % 2:
        raise MediaFailed(
            f"{width}x{height} cannot be encoded: H.264 players want even sides",
            hint=f"Use {max(width - width % 2, 2)}x{max(height - height % 2, 2)}.",
        )
    if not (math.isfinite(fps) and fps > 0):
        raise MediaFailed(f"{fps} frames a second cannot be encoded", hint="Use 7.")
    began = time.monotonic()
    picture = filters.Picture(source_size, output_size, pixels)
    feed = _Feed(chunks, source_size, pixels, on_frame)
    _open(target)  # a folder that refuses says so more clearly here than through ffmpeg
    try:
        with working_folder(beside=target) as room:
            ffmpeg.run(
                [
                    *ffmpeg.usual_options("warning"),
                    *("-y", "-filter_complex_threads", str(ffmpeg.THREADS)),
                    *("-f", "rawvideo", "-pixel_format", pixels),
                    *("-video_size", "{}x{}".format(*source_size)),
                    *("-framerate", _rate(fps), "-i", "pipe:0"),
                    *_comment(comment, room),
                    *filters.arguments(picture, overlay, _rate(fps), room),
                    *("-map", "[v]", "-map_metadata", "1"),
                    *("-c:v", "libx264", "-crf", str(settings.crf), "-preset", settings.preset),
                    *("-threads", str(ffmpeg.THREADS)),
                    *("-x264-params", f"rc-lookahead={settings.lookahead}"),
                    *("-fps_mode", "passthrough", "-movflags", "+faststart"),
                    *("-f", "mp4", f"file:{target.absolute()}"),
                ],
                doing=f"encode {target.name}",
                deadline_s=deadline_s,
                stall_s=STALL_S,
                feed=feed,
                check=check,
                cwd=room,
            )
    except BaseException:
        discard(target)
        raise
    return Encoded(feed.taken, time.monotonic() - began)


class _Feed:
    """The frames one by one, checked and counted as ffmpeg takes them."""

    def __init__(
        self,
        chunks: Iterable[Chunk],
        size: tuple[int, int],
        pixels: filters.Pixels,
        on_frame: Callable[[int], None] | None,
    ) -> None:
        self.taken = 0
        self._chunks = chunks
        width, height = size
        rgb = pixels == "rgb24"
        self._frame_shape = (height, width, 3) if rgb else (height * 3 // 2, width)
        self._on_frame = on_frame

    def __iter__(self) -> Iterator[memoryview]:
        for chunk in self._chunks:
            if chunk.dtype != np.uint8 or chunk.shape[1:] != self._frame_shape:
                raise MediaFailed(
                    f"frames of {chunk.dtype} {chunk.shape} came where uint8 (n, "
                    f"{', '.join(map(str, self._frame_shape))}) was declared",
                    hint="This is a fault of the tier that made the frames; please report it.",
                )
            for frame in chunk:
                yield np.ascontiguousarray(frame).data.cast("B")
                self.taken += 1
                if self._on_frame is not None:
                    self._on_frame(self.taken)
        if self.taken == 0:
            raise MediaFailed(
                "no frames came to be encoded",
                hint="This is a fault of the tier that made the frames; please report it.",
            )


def _open(target: Path) -> None:
    try:
        with target.open("wb"):
            pass
    except OSError as error:
        raise storage_error(error, target) from error


def _rate(fps: float) -> str:
    """``fps`` as a fraction: 7 is 7/1, 23.976 is 2997/125."""
    rate = Fraction(fps).limit_denominator(1001)
    return f"{rate.numerator}/{rate.denominator}"


def _comment(comment: str, room: Path) -> list[str]:
    """Arguments for an input that is only tags. It is the second: input 1."""
    write(room / "tags.txt", metadata.dump(comment))
    return ["-f", "ffmetadata", "-i", "file:tags.txt"]
