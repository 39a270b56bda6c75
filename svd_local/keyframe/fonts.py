"""Which font has which character: Noto Sans from its package first, then the system's fonts.

Font files are read with fontTools, once per process, and only when a character is missing from Noto
Sans (Latin, Cyrillic and Greek are in it). Nothing is asked of foreign programs.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

_SUFFIXES = {".ttf", ".otf", ".ttc", ".otc"}
_MOST_FILES = 4000
"""A folder of fonts larger than this is not read to its end."""
_LIKED = ("noto", "sans")
_DISLIKED = ("serif", "mono", "italic", "oblique", "condensed", "display", "thin", "black", "math")


def font_for(character: str, *, bold: bool) -> Path | None:
    """A font file that can draw ``character``; None where this machine has none."""
    base = base_font()
    if ord(character) in _characters(base):
        return base
    return _system_font(character, bold)


@lru_cache(maxsize=1)
def base_font() -> Path:
    """Noto Sans, as a variable font."""
    import fontpkg

    return Path(fontpkg.path("Noto Sans"))


def load(path: Path, size: int, *, bold: bool) -> FreeTypeFont:
    """The font at ``size`` pixels, in bold where it is a variable one and that is wanted."""
    from PIL import ImageFont

    font = ImageFont.truetype(str(path), size)
    if path == base_font():
        # Its axes are weight and width; 450 carries small white letters better than 400.
        font.set_variation_by_axes([700 if bold else 450, 100])
    return font


@lru_cache(maxsize=4096)
def _system_font(character: str, bold: bool) -> Path | None:
    script = unicodedata.name(character, "").partition(" ")[0].casefold()
    wanted = ("cjk",) if script in ("hiragana", "katakana", "hangul", "cjk") else (script,)

    def merit(path: Path) -> tuple[int, str]:
        stem = path.stem.casefold()
        points = 8 * any(word in stem for word in wanted if word)
        points += 2 * sum(word in stem for word in _LIKED)
        points -= sum(word in stem for word in _DISLIKED)
        points += ("bold" in stem) == bold
        return -points, stem

    for path in sorted(system_fonts(), key=merit):
        if ord(character) in _characters(path):
            return path
    return None


@lru_cache(maxsize=1)
def system_fonts() -> tuple[Path, ...]:
    """The font files in the folders where this system keeps them."""
    found: list[Path] = []
    for folder in _folders():
        for parent, _, names in os.walk(folder):
            for name in sorted(names):
                if Path(name).suffix.casefold() in _SUFFIXES:
                    found.append(Path(parent, name))
            if len(found) >= _MOST_FILES:
                return tuple(found)
    return tuple(found)


def _folders() -> Iterator[Path]:
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts"
        yield Path(os.environ.get("LOCALAPPDATA", str(home))) / "Microsoft" / "Windows" / "Fonts"
        return
    if sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"))
        yield home / "Library" / "Fonts"
        return
    data = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME") or str(home / ".local" / "share")
    for folder in (own, *data.split(os.pathsep)):
        yield Path(folder) / "fonts"
    yield home / ".fonts"


@lru_cache(maxsize=512)
def _characters(path: Path) -> frozenset[int]:
    """The code points a font can draw as outlines; none where it is damaged or of bitmaps."""
    from fontTools.ttLib import TTFont

    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:
            if "glyf" not in font and "CFF " not in font and "CFF2" not in font:
                return frozenset()
            return frozenset(font.getBestCmap() or ())
    except Exception:  # noqa: BLE001 - any font of the machine may be broken in any way
        return frozenset()
