"""Text set in lines: fonts found for every character, wrapped, and shrunk until it fits.

A line is a row of runs, each in one font and direction. Runs of right-to-left text are shaped by
Raqm where Pillow has it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from svd_local.keyframe import fonts

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

_LEADING = 1.22
_ELLIPSIS = "…"
_SHRINK = 0.94
_OPENING = ("Ps", "Pi")
_CLOSING = ("Po", "Pe", "Pf", "Mn", "Mc")
_SHAPED_SCRIPTS = (
    "ARABIC", "HEBREW", "SYRIAC", "THAANA", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI", "ORIYA",
    "TAMIL", "TELUGU", "KANNADA", "MALAYALAM", "SINHALA", "THAI", "LAO", "TIBETAN", "MYANMAR", "KHMER",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring characters of one font and one direction."""

    text: str
    font: Path
    leftward: bool


@dataclass(frozen=True, slots=True)
class Block:
    """Text as it was fitted. ``width`` and ``height`` in pixels; lines are ``leading`` apart."""

    lines: tuple[str, ...]
    size: int
    width: int
    height: int
    leading: int
    typesetter: Typesetter
    shortened: bool = False

    def draw(self, mask: Image, x: int, y: int) -> None:
        """Draw the lines in white on ``mask`` (mode L), their upper left corner at (x, y).

        Lines that read from right to left are set flush right.
        """
        for index, line in enumerate(self.lines):
            self.typesetter.draw(line, self.size, mask, x, y + index * self.leading, self.width)


@dataclass(slots=True)
class Typesetter:
    """Knows how wide text is in one weight, and which characters no font had."""

    bold: bool
    missing: set[str] = field(default_factory=set)
    _loaded: dict[tuple[Path, int], FreeTypeFont] = field(default_factory=dict)

    def fit(self, text: str, width: int, *, largest: int, smallest: int, lines: int) -> Block:
        """``text`` in at most ``lines`` lines of ``width`` pixels.

        The letters' size goes down from ``largest`` to ``smallest`` pixels until they fit without a
        word being broken; then breaking is allowed; what does not fit even so is cut, with an
        ellipsis.
        """
        text = self._drawable(text)
        sizes = [largest]
        while sizes[-1] > smallest:
            sizes.append(max(smallest, int(sizes[-1] * _SHRINK)))
        for whole in (True, False):
            for size in sizes:
                rows, broken = self._wrap(text, width, size)
                if len(rows) <= lines and not (whole and broken):
                    return self._block(self._balanced(text, rows, width, size), size)
        rows, _ = self._wrap(text, width, smallest)
        last = rows[lines - 1]
        while last and self.measure(last + _ELLIPSIS, smallest) > width:
            last = "".join(_clusters(last)[:-1])
        rows = [*rows[: lines - 1], last.rstrip() + _ELLIPSIS]
        return self._block(rows, smallest, shortened=True)

    def measure(self, line: str, size: int) -> float:
        """The width of ``line`` in pixels."""
        return sum(self._font(run.font, size).getlength(run.text) for run in self._runs(line))

    def draw(self, line: str, size: int, mask: Image, x: int, y: int, width: int) -> None:
        """Draw one line on ``mask``, its baseline where that of Noto Sans would be."""
        from PIL import ImageDraw, features

        pen = ImageDraw.Draw(mask)
        runs = self._runs(line)
        at = float(x)
        if reads_leftward(line):
            at += width - self.measure(line, size)
            runs = _reordered(runs)
        baseline = y + self._font(fonts.base_font(), size).getmetrics()[0]
        shaped = features.check("raqm")
        for run in runs:
            font = self._font(run.font, size)
            direction = ("rtl" if run.leftward else "ltr") if shaped else None
            pen.text((at, baseline), run.text, 255, font, anchor="ls", direction=direction)
            at += font.getlength(run.text)

    def _block(self, lines: list[str], size: int, *, shortened: bool = False) -> Block:
        leading = round(size * _LEADING)
        ascent, descent = self._font(fonts.base_font(), size).getmetrics()
        width = round(max((self.measure(line, size) for line in lines), default=0) + 0.5)
        height = leading * (len(lines) - 1) + ascent + descent
        return Block(tuple(lines), size, width, height, leading, self, shortened)

    def _drawable(self, text: str) -> str:
        """``text`` composed, without control characters and without symbols that no font has.

        A letter no font has stays, and shows as a box; leaving it out would change the word.
        """
        kept = []
        for character in unicodedata.normalize(
            "NFC", text.replace("\r\n", "\n").replace("\t", " ")
        ):
            kind = unicodedata.category(character)
            if character in "\n\u200d\u200c" or kind[0] == "Z":
                kept.append("\n" if character in "\u2028\u2029" else character)
            elif kind[0] == "C" or "\ufe00" <= character <= "\ufe0f":
                continue
            elif fonts.font_for(character, bold=self.bold) is not None:
                kept.append(character)
            else:
                self.missing.add(character)
                if kind[0] in "LN":
                    kept.append(character)
        return "".join(kept)

    def _runs(self, line: str) -> list[_Run]:
        """``line`` in logical order, cut where the font or the direction changes."""
        runs: list[_Run] = []
        for character, leftward in zip(line, _directions(line), strict=True):
            path = self._path(character, runs[-1].font if runs else None)
            if runs and runs[-1].font == path and runs[-1].leftward == leftward:
                runs[-1] = _Run(runs[-1].text + character, path, leftward)
            else:
                runs.append(_Run(character, path, leftward))
        return runs

    def _path(self, character: str, previous: Path | None) -> Path:
        if previous is not None and (
            unicodedata.combining(character) or character in "\u200d\u200c \u00a0"
        ):
            return previous
        return fonts.font_for(character, bold=self.bold) or fonts.base_font()

    def _font(self, path: Path, size: int) -> FreeTypeFont:
        key = (path, size)
        if key not in self._loaded:
            self._loaded[key] = fonts.load(path, size, bold=self.bold)
        return self._loaded[key]

    def _wrap(self, text: str, width: float, size: int) -> tuple[list[str], bool]:
        """Lines no wider than ``width``, and whether a word had to be broken for it."""
        lines: list[str] = []
        broken = False
        for paragraph in text.split("\n"):
            line = ""
            for piece in _pieces(paragraph):
                if self.measure((line + piece).strip(), size) <= width:
                    line += piece
                    continue
                if line.strip():
                    lines.append(line.strip())
                line = piece.lstrip()
                while self.measure(line.strip(), size) > width:
                    head = self._head(line, width, size)
                    if head == line:  # one character, wider than the line
                        break
                    broken = True
                    lines.append(head)
                    line = line[len(head) :]
            if line.strip():
                lines.append(line.strip())
        return lines, broken

    def _head(self, word: str, width: float, size: int) -> str:
        """As much of an overlong word as one line holds; at least one character."""
        head = ""
        for cluster in _clusters(word):
            if head and self.measure(head + cluster, size) > width:
                break
            head += cluster
        return head

    def _balanced(self, text: str, lines: list[str], width: int, size: int) -> list[str]:
        """The same number of lines, of about the same length."""
        if len(lines) < 2:
            return lines
        low, high, best = width / len(lines) * 0.8, float(width), lines
        for _ in range(7):
            middle = (low + high) / 2
            tried, broken = self._wrap(text, middle, size)
            if len(tried) <= len(lines) and not broken:
                best, high = tried, middle
            else:
                low = middle
        return best


def needs_shaping(text: str) -> bool:
    """Whether ``text`` is of a script whose letters change with their neighbours or run leftward."""
    return any(unicodedata.name(letter, "").startswith(_SHAPED_SCRIPTS) for letter in text)


def _pieces(paragraph: str) -> list[str]:
    """What a line may be broken between: after spaces and hyphens, and around ideographs.

    Closing punctuation and marks stay with what they follow, opening with what it opens.
    """
    pieces: list[str] = []
    for character in paragraph:
        if pieces and not _may_break(pieces[-1][-1], character):
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _may_break(last: str, following: str) -> bool:
    if following == " " or unicodedata.category(following) in _CLOSING:
        return False
    if unicodedata.category(last) in _OPENING:
        return False
    wide = unicodedata.east_asian_width(last) + unicodedata.east_asian_width(following)
    return last in " -" or "W" in wide or "F" in wide


def _clusters(text: str) -> list[str]:
    """``text`` in characters with the marks that belong to them."""
    clusters: list[str] = []
    for character in text:
        if clusters and (unicodedata.category(character)[0] == "M" or character in "\u200d\u200c"):
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters


def reads_leftward(line: str) -> bool:
    """Whether the first letter of ``line`` is one of a right-to-left script."""
    return next((way for way in map(_leftward, line) if way is not None), False)


def _leftward(character: str) -> bool | None:
    """The direction a character has by itself; None for spaces and punctuation."""
    kind = unicodedata.bidirectional(character)
    return True if kind in ("R", "AL") else False if kind in ("L", "EN", "AN") else None


def _directions(line: str) -> list[bool]:
    """Whether each character reads leftward: what is neutral goes with what is on both its sides,
    or else with the line.
    """
    base = reads_leftward(line)
    own = [_leftward(character) for character in line]
    before, after = [base] * len(own), [base] * len(own)
    for index, way in enumerate(own[:-1]):
        before[index + 1] = before[index] if way is None else way
    for index in range(len(own) - 1, 0, -1):
        way = own[index]
        after[index - 1] = after[index] if way is None else way
    return [
        way if way is not None else left if left == right else base
        for way, left, right in zip(own, before, after, strict=True)
    ]


def _reordered(runs: list[_Run]) -> list[_Run]:
    """Runs of a right-to-left line from left to right; what reads rightward keeps its own order."""
    placed: list[_Run] = []
    for leftward, group in groupby(runs, key=lambda run: run.leftward):
        members = list(group)
        placed = (members[::-1] if leftward else members) + placed
    return placed
