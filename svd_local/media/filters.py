"""ffmpeg's filters between the frames that come and the encoder: size, colours, letters.

Scaling and letters are ffmpeg's work and not numpy's, so that they run beside the encoder and not in the
thread that makes the frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from svd_local.errors import MediaFailed
from svd_local.media.files import write

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = Literal["rgb24", "yuv420p"]
"""How frames come: RGB, or laid out as ``planar`` says, which needs no conversion."""

_LANCZOS = "flags=lanczos+accurate_rnd+full_chroma_int+full_chroma_inp"
_BT709 = "out_color_matrix=bt709:out_range=tv"
# H.264 means chroma samples left-aligned where nothing is said; swscale would centre them.
_SITED = "out_h_chr_pos=0:out_v_chr_pos=128"
_FROM_SITED = "in_h_chr_pos=0:in_v_chr_pos=128"
_TAGS = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
_FULL = f"{_LANCZOS}:{_BT709}"
_ROOM = 16
"""Pixels around the letters that are converted with them, more than a filter reaches."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What comes and what it is to become: sizes are width and height."""

    source: tuple[int, int]
    size: tuple[int, int]
    pixels: Pixels

    def plain(self) -> str:
        """Scaled and converted in one step; from input 0 to ``[v]``."""
        if self.pixels == "yuv420p":
            return f"[0:v]{self._as_declared()},{_TAGS}[v]"
        return f"[0:v]{self._scale()}:{_FULL}:{_SITED},format=yuv420p,{_TAGS}[v]"

    def lettered(self, box: tuple[int, int, int, int]) -> str:
        """Scaled, then input 2 laid over ``box`` (left, top, right, bottom), then converted.

        The blend is done before chroma is halved (yuv444), so that coloured letters get the same
        clean edges as the rest of the picture. Frames that come with their chroma halved are
        converted and back only around the letters; the rest of them stays as it is.
        """
        letters = f"[2:v]scale={_FULL},format=yuva444p[letters];"
        if self.pixels == "rgb24":
            return (
                f"[0:v]{self._scale()}:{_FULL},format=yuv444p[picture];"
                f"{letters}[picture][letters]overlay={box[0]}:{box[1]}:format=yuv444,"
                f"scale={_FULL}:{_SITED},format=yuv420p,{_TAGS}[v]"
            )
        left, top = (max(0, (edge - _ROOM) // 2 * 2) for edge in box[:2])
        right, bottom = (
            min(side, (edge + _ROOM + 1) // 2 * 2)
            for edge, side in zip(box[2:], self.size, strict=True)
        )
        return (
            f"[0:v]{self._as_declared()},{_TAGS},split[all][part];"
            f"[part]crop={right - left}:{bottom - top}:{left}:{top},"
            f"scale={_FULL}:{_FROM_SITED},format=yuv444p[picture];"
            f"{letters}[picture][letters]overlay={box[0] - left}:{box[1] - top}:format=yuv444,"
            f"scale={_FULL}:{_SITED},format=yuv420p[spot];"
            f"[all][spot]overlay={left}:{top}:format=yuv420,{_TAGS}[v]"
        )

    def _scale(self) -> str:
        return "scale={}:{}".format(*self.size)

    def _as_declared(self) -> str:
        """Planar frames at the size of the file; those that have it pass untouched."""
        if self.source == self.size:
            return "format=yuv420p"
        return f"{_TAGS},{self._scale()}:{_FULL}:{_FROM_SITED}:{_SITED},format=yuv420p"


def arguments(picture: Picture, overlay: Image | None, rate: str, room: Path) -> list[str]:
    """The arguments that lead ffmpeg from input 0 to ``[v]``; ``overlay`` becomes input 2.

    Only the part of ``overlay`` that shows is read and blended: with a lower third it costs about
    5 ms a frame at 1080p.

    Args:
        picture: what comes and goes.
        overlay: RGBA, of the file's size; None, or nothing but transparent, changes nothing.
        rate: frames a second, as ffmpeg is told.
        room: a folder that ffmpeg runs in.

    Raises:
        MediaFailed: the overlay is of another size or kind.
    """
    box = None if overlay is None else overlay.getbbox(alpha_only=True)
    if overlay is None or box is None:
        return ["-filter_complex", picture.plain()]
    if overlay.size != picture.size or overlay.mode != "RGBA":
        raise MediaFailed(
            f"an overlay of {overlay.mode} {overlay.size} came where RGBA {picture.size} was expected",
            hint="Draw it at the size of the finished file.",
        )
    write(room / "overlay.rgba", overlay.crop(box).tobytes())
    return [
        *("-f", "rawvideo", "-pixel_format", "rgba"),
        *("-video_size", f"{box[2] - box[0]}x{box[3] - box[1]}"),
        *("-framerate", rate, "-i", "file:overlay.rgba"),
        *("-filter_complex", picture.lettered(box)),
    ]
