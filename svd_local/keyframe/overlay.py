"""The letters and the logo as one transparent layer, drawn at the size of the finished file.

Video models distort letters, so they never see them: this layer is laid over the finished frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from svd_local.keyframe import lettering
from svd_local.keyframe.lettering import Block, Typesetter
from svd_local.keyframe.picture import open_logo
from svd_local.keyframe.types import Overlays

if TYPE_CHECKING:
    from PIL.Image import Image

_MARGIN = 0.055
"""Kept free at every edge, as a share of the shorter side."""
_SCRIM = 168
"""Opacity (of 255) of the dark behind letters: white on it reaches 4.5:1 even before white."""
_LOGO_BOX = (0.20, 0.15)
_LOGO_GROWTH = 2.0
"""A small logo is enlarged at most so much; beyond, it would look worse than small."""


@dataclass(frozen=True, slots=True)
class _Style:
    """One kind of text. Sizes as shares of the shorter side, floors in pixels."""

    name: str
    bold: bool
    largest: float
    smallest: float
    floor: int
    lines: int


_TITLE = _Style("title", bold=True, largest=0.092, smallest=0.050, floor=11, lines=2)
_CAPTION = _Style("caption", bold=False, largest=0.048, smallest=0.030, floor=9, lines=3)


def render_overlay(
    overlays: Overlays, size: tuple[int, int]
) -> tuple[Image | None, tuple[str, ...]]:
    """The layer (RGBA, ``size`` = width, height in pixels) and warnings about it.

    None where there is nothing to draw. Title and caption stand at the lower left over a dark
    gradient, the logo at the upper right. Warnings name characters no font has, text that had to be
    cut, and scripts this Pillow cannot shape.

    Raises:
        ImageRejected: the logo cannot be used; the error's field is ``logo``.
    """
    if not overlays:
        return None, ()
    from PIL import Image

    warnings: list[str] = []
    layer = _text(overlays, size, warnings)
    if overlays.logo is not None:
        layer = layer or Image.new("RGBA", size)
        _place_logo(layer, overlays.logo)
    return layer, tuple(warnings)


def _text(overlays: Overlays, size: tuple[int, int], warnings: list[str]) -> Image | None:
    """Title and caption before their gradient; None where no drawable letter is left."""
    from PIL import Image, ImageChops, ImageFilter

    short, margin = min(size), _margin(size)
    blocks = [
        _fitted(text, style, size, warnings)
        for text, style in ((overlays.title, _TITLE), (overlays.caption, _CAPTION))
        if text
    ]
    blocks = [block for block in blocks if block.lines]
    if not blocks:
        return None
    gap = round(short * 0.018)
    top = size[1] - margin - sum(block.height for block in blocks) - gap * (len(blocks) - 1)
    mask = Image.new("L", size)
    y = top
    for block in blocks:
        leftward = lettering.reads_leftward(block.lines[0])
        block.draw(mask, size[0] - margin - block.width if leftward else margin, y)
        y += block.height + gap
    black, white = Image.new("RGBA", size, (0, 0, 0, 255)), Image.new("RGBA", size, "#ffffff")
    # Letters also carry a narrow shadow, which keeps their edges clear on busy pictures.
    shadow = mask.filter(ImageFilter.GaussianBlur(max(0.6, short * 0.004)))
    black.putalpha(ImageChops.lighter(_scrim(size, top), shadow))
    white.putalpha(mask)
    return Image.alpha_composite(black, white)


def _fitted(text: str, style: _Style, size: tuple[int, int], warnings: list[str]) -> Block:
    from PIL import features

    short = min(size)
    smallest = max(style.floor, round(short * style.smallest))
    largest = max(smallest, round(short * style.largest))
    # Lines are shorter than the eye would lose, and tall frames take more of them.
    lines = style.lines + (size[1] > size[0])
    if text.count("\n") >= lines:
        text = " ".join(text.split())  # smaller letters would not make room for so many lines
    typesetter = Typesetter(bold=style.bold)
    block = typesetter.fit(
        text, size[0] - 2 * _margin(size), largest=largest, smallest=smallest, lines=lines
    )
    if typesetter.missing:
        named = ", ".join(f"{c} (U+{ord(c):04X})" for c in sorted(typesetter.missing)[:8])
        more = len(typesetter.missing) - 8
        also = f" and {more} more" if more > 0 else ""
        warnings.append(f"{style.name}: no font on this machine has {named}{also}")
    if block.shortened:
        warnings.append(f"{style.name}: too long for the picture, cut after {block.lines[-1]!r}")
    if lettering.needs_shaping(text) and not features.check("raqm"):
        warnings.append(
            f"{style.name}: this Pillow has no Raqm, without which its script is not set rightly"
        )
    return block


def _scrim(size: tuple[int, int], top: int) -> Image:
    """Opacity of the dark: full from a little above the text down, fading out above that."""
    from PIL import Image

    full = max(0, top - round(min(size) * 0.015))
    fade = round(min(size) * 0.22)
    column = bytearray()
    for y in range(size[1]):
        share = min(1.0, max(0.0, (y - full + fade) / fade))
        column.append(round(_SCRIM * share * share * (3 - 2 * share)))
    return Image.frombytes("L", (1, size[1]), bytes(column)).resize(size)


def _place_logo(layer: Image, path: Path) -> None:
    """Draw the logo at the upper right; on a plate where it is transparent, so that it is seen."""
    from PIL import Image, ImageDraw

    logo = open_logo(path)
    size, margin = layer.size, _margin(layer.size)
    box = round(size[0] * _LOGO_BOX[0]), round(size[1] * _LOGO_BOX[1])
    scale = min(box[0] / logo.width, box[1] / logo.height, _LOGO_GROWTH)
    wanted = max(1, round(logo.width * scale)), max(1, round(logo.height * scale))
    opaque = logo.getchannel("A").getextrema()[0] == 255
    small = logo.convert("RGBa").resize(wanted, Image.Resampling.LANCZOS).convert("RGBA")
    left, top = size[0] - margin - wanted[0], margin
    if not opaque:
        plate = Image.new("RGBA", size)
        pad = max(2, round(min(size) * 0.016))
        shade = (18, 22, 32, 200) if _is_light(small) else (255, 255, 255, 215)
        ImageDraw.Draw(plate).rounded_rectangle(
            (left - pad, top - pad, left + wanted[0] + pad - 1, top + wanted[1] + pad - 1),
            radius=pad,
            fill=shade,
        )
        layer.alpha_composite(plate)
    layer.alpha_composite(small, (left, top))


def _is_light(logo: Image) -> bool:
    """Whether what is visible of ``logo`` is light on the average."""
    from PIL import ImageStat

    return ImageStat.Stat(logo.convert("L"), logo.getchannel("A").point(_visible)).mean[0] > 140


def _visible(alpha: int) -> int:
    return 255 if alpha > 127 else 0


def _margin(size: tuple[int, int]) -> int:
    return max(4, round(min(size) * _MARGIN))
