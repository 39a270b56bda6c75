"""What a video file really holds, found by decoding all of it: no ffprobe comes with ffmpeg here.

Files from elsewhere pass through here first, so ffmpeg is held on a short lead: it may open local
files only, of a few real containers only (a text file named .mp4 can otherwise have it play any file
of the machine), in an empty folder, and no more than the limits say. A damaged file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from svd_local.errors import MediaFailed
from svd_local.media import ffmpeg, metadata
from svd_local.media.files import working_folder

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""ffmpeg's names of the formats that may be opened: files that carry their own pictures. Lists and
scripts (concat, hls, dash, sdp, image2) and drawings (svg) are not among them."""

_HINT = "Check that the file is a whole MP4, MOV, WebM, MKV or AVI video and no other kind of file."
_SOUND = re.compile(r"^\[info\]   Stream #0:\d+.*?: Audio: ", re.MULTILINE)
"""The line in which ffmpeg describes a sound track of the input; tags are deeper indented."""
_USUAL = (
    *map(Fraction, range(1, 121)),
    *(Fraction(15, 2), Fraction(25, 2)),
    *(Fraction(n * 1000, 1001) for n in (24, 30, 60, 120)),
)
"""Frame rates that a container's rounded times may stand for."""
_REFUSE = ("-xerror", "-err_detect", "explode")
# H.264's chroma samples are left-aligned; swscale takes them for centred, half a pixel off.
_CLEAN = (
    "in_h_chr_pos=0:in_v_chr_pos=128:flags=lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may hold at most. The defaults are well beyond anything svd_local makes."""

    bytes: int = 512 * 2**20
    frames: int = 3600
    pixels: int = 3840 * 2160
    """Of one frame."""
    duration_s: float = 300.0
    deadline_s: float = 300.0
    """Wall-clock seconds that decoding may take."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A video as decoded: its first video stream, every frame counted.

    ``fps`` is frames over duration; where the container's times are rounded (Matroska's are
    milliseconds), it is the usual rate they were rounded from. ``constant_rate`` says that all frames
    last equally long, ``sound`` that there is a sound track too.
    ``codec`` and ``pixel_format`` are ffmpeg's names; ``color`` is what the stream says of its
    colours, for example ``tv, bt709, progressive``; ``comment`` is the container's tag, empty where
    there is none.
    """

    frames: int
    width: int
    height: int
    fps: float
    duration_s: float
    constant_rate: bool
    codec: str
    pixel_format: str
    color: str
    comment: str
    sound: bool = False


def probe(
    path: Path,
    *,
    limits: Limits = DEFAULT_LIMITS,
    check: ffmpeg.Check | None = None,
    beside: Path | None = None,
) -> VideoInfo:
    """Decode ``path`` in full and say what it holds.

    ``beside`` says where its scratch folder goes, as for ``working_folder``.

    Raises:
        MediaFailed: it is no video file of the containers taken, is damaged, holds no frame, or
            exceeds a limit.
    """
    _check_size(path, limits)
    with working_folder(beside) as room:
        finished = ffmpeg.run(
            [
                *ffmpeg.usual_options("info"),
                *_REFUSE,
                *guarded_input(path, limits),
                # One line of text a frame, with its time; the codec's own timebase, not a guess.
                *("-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "demux"),
                *("-frames:v", str(limits.frames + 1), "-f", "framecrc", "pipe:1"),
                *("-f", "ffmetadata", "file:tags.txt"),
            ],
            doing=f"read {path}",
            deadline_s=limits.deadline_s,
            check=check,
            cwd=room,
            hint=_HINT,
        )
        comment = metadata.load_comment((room / "tags.txt").read_bytes())
    listing = _Listing.parse(finished.output.decode("ascii", errors="replace"), path)
    _check_picture(path, listing.width, listing.height, limits)
    codec, pixel_format, color = _stream_line(finished.messages, path)
    info = VideoInfo(
        frames=listing.frames,
        width=listing.width,
        height=listing.height,
        fps=float(listing.rate),
        duration_s=float(listing.frames / listing.rate),
        constant_rate=listing.constant_rate,
        codec=codec,
        pixel_format=pixel_format,
        color=color,
        comment=comment,
        sound=_SOUND.search(finished.messages) is not None,
    )
    if info.frames > limits.frames or info.duration_s > limits.duration_s:
        raise MediaFailed(
            f"{path} is too long: more than {limits.frames} frames or {limits.duration_s:g} s",
            hint="Cut it to a short clip first.",
        )
    return info


def verify(
    path: Path,
    *,
    frames: int,
    size: tuple[int, int],
    fps: float,
    check: ffmpeg.Check | None = None,
    beside: Path | None = None,
) -> VideoInfo:
    """Decode ``path`` in full and see that it is what was asked for.

    Raises:
        MediaFailed: it is not H.264 in yuv420p with exactly ``frames`` whole frames of ``size``, at a
            constant ``fps``; every difference is named.
    """
    info = probe(path, check=check, beside=beside)
    differences = [
        f"{what} is {found}, not {wanted}"
        for what, found, wanted in (
            ("the frame count", info.frames, frames),
            ("the size", f"{info.width}x{info.height}", f"{size[0]}x{size[1]}"),
            ("the codec", info.codec, "h264"),
            ("the pixel format", info.pixel_format, "yuv420p"),
        )
        if found != wanted
    ]
    if abs(info.fps - fps) > fps * 1e-3:
        differences.append(f"the frame rate is {info.fps:g}, not {fps:g}")
    if not info.constant_rate:
        differences.append("the frame rate is not constant")
    if differences:
        raise MediaFailed(
            f"{path.name} is not the file that was asked for: {'; '.join(differences)}",
            hint="Try again; if it stays so, another ffmpeg can be named in IMAGEIO_FFMPEG_EXE.",
        )
    return info


def read_comment(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> str:
    """The container's ``comment``, empty where there is none. Nothing is decoded.

    Raises:
        MediaFailed: it is no video file of the containers taken.
    """
    _check_size(path, limits)
    with working_folder() as room:
        finished = ffmpeg.run(
            [
                *ffmpeg.usual_options("error"),
                *guarded_input(path, limits),
                *("-f", "ffmetadata", "pipe:1"),
            ],
            doing=f"read the comment of {path}",
            deadline_s=limits.deadline_s,
            cwd=room,
            hint=_HINT,
        )
    return metadata.load_comment(finished.output)


def decode_frames(
    path: Path,
    size: tuple[int, int] | None = None,
    *,
    only: Sequence[int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    check: ffmpeg.Check | None = None,
) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    """The frames of ``path``, one at a time: uint8 arrays of shape (height, width, 3), RGB.

    They are scaled to ``size`` (width, height) by Lanczos where it is given. Where ``only`` is, it
    holds the numbers of the frames that are wanted, from 0; those there are come in their order.

    Raises:
        MediaFailed: as for ``probe``; a limit on length ends the frames with this error.
    """
    _check_size(path, limits)
    scale = "scale=" + ("" if size is None else f"{size[0]}:{size[1]}:") + _CLEAN
    chosen = "" if only is None else f"select={'+'.join(_numbered(n) for n in only)},"
    count = 0
    with (
        working_folder() as room,
        closing(
            ffmpeg.stream(
                [
                    *ffmpeg.usual_options("error"),
                    *_REFUSE,
                    *guarded_input(path, limits),
                    *("-map", "0:v:0", "-fps_mode", "passthrough"),
                    *("-frames:v", str(limits.frames + 1), "-vf", chosen + scale),
                    # Ten bits a channel would come as pictures of sixteen.
                    *("-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1"),
                ],
                doing=f"decode {path}",
                deadline_s=limits.deadline_s,
                check=check,
                cwd=room,
                hint=_HINT,
            )
        ) as blocks,
    ):
        for frame in _pictures(blocks):
            count += 1
            if size is None:
                _check_picture(path, frame.shape[1], frame.shape[0], limits)
            if count > limits.frames:
                raise MediaFailed(
                    f"{path} is too long: more than {limits.frames} frames",
                    hint="Cut it to a short clip first.",
                )
            yield frame


def _numbered(frame: int) -> str:
    """An expression of ffmpeg's that is true for one frame; the comma is hidden from the filter list."""
    return rf"eq(n\,{frame})"


def _check_size(path: Path, limits: Limits) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise MediaFailed(f"{path} cannot be read: {error.strerror}", hint=_HINT) from error
    if not path.is_file() or size > limits.bytes:
        raise MediaFailed(
            f"{path} is no file of at most {limits.bytes // 2**20} MiB",
            hint="Cut it to a short clip first.",
        )


def guarded_input(path: Path, limits: Limits) -> list[str]:
    """Arguments that open a file nobody vouches for; ``file:`` keeps its name from being a protocol.

    ffmpeg counts pixels with the codec's padding, so here it gets twice the limit, to guard memory;
    ``_check_picture`` holds frames to the limit itself.
    """
    return [
        *("-protocol_whitelist", "file,pipe", "-format_whitelist", CONTAINERS),
        *(
            "-threads",
            str(ffmpeg.THREADS),
            "-max_pixels",
            str(2 * limits.pixels),
            "-t",
            str(limits.duration_s + 1),
        ),
        *("-i", f"file:{path.absolute()}"),
    ]


def _check_picture(path: Path, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise MediaFailed(
            f"{path} is too large: {width}x{height} is more than {limits.pixels} pixels",
            hint="Scale it down first.",
        )


@dataclass(frozen=True, slots=True)
class _Listing:
    """What ffmpeg's framecrc format lists: a header, then a line a frame."""

    frames: int
    width: int
    height: int
    rate: Fraction
    constant_rate: bool

    @classmethod
    def parse(cls, text: str, path: Path) -> _Listing:
        timebase = re.search(r"^#tb 0: (\d+)/(\d+)$", text, re.MULTILINE)
        dimensions = re.search(r"^#dimensions 0: (\d+)x(\d+)$", text, re.MULTILINE)
        times = [
            (int(pts), int(length))
            for pts, length in re.findall(r"^0,\s*-?\d+,\s*(-?\d+),\s*(\d+),", text, re.MULTILINE)
        ]
        if timebase is None or dimensions is None or not times:
            raise MediaFailed(f"{path} holds no video frame", hint=_HINT)
        steps = [later - sooner for (sooner, _), (later, _) in pairwise(times)]
        steps.append(times[-1][1] or (steps[-1] if steps else 1))
        ticks = times[-1][0] - times[0][0] + steps[-1]
        tick = Fraction(int(timebase[1]), int(timebase[2]))
        rate = len(times) / (max(ticks, 1) * tick)
        spread = max(steps) - min(steps)
        if spread == 1:  # lost to rounding
            rate = _usual([time for time, _ in times], tick, rate)
        return cls(
            frames=len(times),
            width=int(dimensions[1]),
            height=int(dimensions[2]),
            rate=rate,
            constant_rate=spread <= 1,
        )


def _usual(times: Sequence[int], tick: Fraction, measured: Fraction) -> Fraction:
    """The usual rate nearest to ``measured`` which all ``times`` are within a tick of; ``measured`` where
    there is none.
    """

    def fits(rate: Fraction) -> bool:
        step = 1 / (rate * tick)
        return all(abs(time - times[0] - n * step) <= 1 for n, time in enumerate(times))

    near = sorted(_USUAL, key=lambda rate: abs(rate - measured))[:2]
    return next(filter(fits, near), measured)


def _stream_line(messages: str, path: Path) -> tuple[str, str, str]:
    """Codec, pixel format and colours, from the line in which ffmpeg describes the input's stream.

    Tags are printed before it, but deeper indented, so none can pose as this line.
    """
    match = re.search(
        r"^\[info\]   Stream #0:\d+.*?: Video: (\w+).*?, (\w+)(?:\(([^)]*)\))?, \d+x\d+",
        messages,
        re.MULTILINE,
    )
    if match is None:
        raise MediaFailed(f"{path} was decoded, but not described by ffmpeg", hint=_HINT)
    return match[1], match[2], match[3] or ""


def _pictures(blocks: Iterator[bytes]) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Binary PPM pictures out of a stream: every one says its own size."""
    held = bytearray()
    for block in blocks:
        held += block
        while (header := re.match(rb"P6\s(\d+) (\d+)\s255\s", held)) is not None:
            shape = (int(header[2]), int(header[1]), 3)
            start, end = header.end(), header.end() + shape[0] * shape[1] * 3
            if len(held) < end:
                break
            yield np.frombuffer(bytes(held[start:end]), np.uint8).reshape(shape)
            del held[:end]
