"""Output folders and names from a template, as ``{lesson}/{index:03d}_{title}``.

Values come from a manifest that nobody vouches for, so a value can never be more than part of one
name: no separator, dot or device name in it leads anywhere. What is written in the template itself
is the user's, and is refused rather than repaired.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from svd_local.batch.columns import canonical
from svd_local.errors import InvalidRequest

MAX_BYTES = 180
"""Of a name in UTF-8: what file systems take (255) less suffixes, numbering, and what staging adds."""
_MAX_PARTS = 8
_NUMBER = re.compile(r"(0?\d{1,2})d?|d")
_CUT = re.compile(r"\.(\d{1,3})")
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_FORBIDDEN = frozenset('/\\<>:"|?*')
_DEVICE = re.compile(
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\..*)?", re.IGNORECASE
)
_SUFFIX = ".mp4"
_HINT = "Write for example {lesson}/{index:03d}_{title}."


class Unnameable(ValueError):
    """A row gives the template no usable value; ``column`` is the one that lacks."""

    def __init__(self, column: str, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.column, self.reason, self.hint = column, reason, hint


@dataclass(frozen=True, slots=True)
class _Part:
    """A literal text, or a column with its format."""

    text: str = ""
    column: str | None = None
    width: str | None = None
    cut: int | None = None

    def of(self, values: Mapping[str, Any]) -> str:
        """The part's text for a row.

        Raises:
            Unnameable: the row gives no value, or no whole number where one is formatted.
        """
        if self.column is None:
            return self.text
        value = values.get(self.column)
        text = "" if value is None else safe_text(str(value))
        if not text:
            raise Unnameable(
                self.column,
                "the output template needs it, and the row gives none",
                "Give it a value, or leave it out of --output-template.",
            )
        if self.width is not None:
            if not _WHOLE.fullmatch(text):
                raise Unnameable(
                    self.column,
                    f"{text[:40]!r} is no whole number, as the output template formats it",
                    f"Write {{{self.column}}} without a format.",
                )
            text = format(int(text), f"{self.width}d")
        return text if self.cut is None else text[: self.cut]


@dataclass(frozen=True, slots=True)
class OutputTemplate:
    """A parsed template: a tuple of parts for every folder, and for the name.

    ``name`` is empty where the template ends with ``/``: names are the usual ones then.
    """

    folders: tuple[tuple[_Part, ...], ...]
    name: tuple[_Part, ...]
    columns: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> OutputTemplate:
        """``text``: folders and a name separated by ``/``, with ``{column}``, ``{column:03d}`` for
        whole numbers or ``{column:.40}`` for so many letters at most; ``{{`` stands for ``{``.

        Raises:
            InvalidRequest: it is no template, or leads out of the output folder.
        """
        parts: list[list[_Part]] = [[]]
        for piece in _parsed(text.removesuffix(_SUFFIX)):
            if piece.column is not None:
                parts[-1].append(piece)
                continue
            first, *others = piece.text.split("/")
            parts[-1].append(_Part(first))
            parts.extend([_Part(other)] for other in others)
        *folders, name = ([part for part in one if part != _Part()] for one in parts)
        for one in (*folders, *([name] if name else [])):
            _check(text, one)
        if not (folders or name):
            _refuse("is empty")
        if len(folders) >= _MAX_PARTS:
            _refuse(f"has more than {_MAX_PARTS} parts")
        used = {part.column for one in (*folders, name) for part in one if part.column}
        return cls(tuple(map(tuple, folders)), tuple(name), frozenset(used))

    def apply(self, values: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Folder (with ``/``) and name for a row's values, by canonical column.

        Raises:
            Unnameable: a value is missing, or is no number where one is formatted.
        """
        folders = [safe_name("".join(part.of(values) for part in one)) for one in self.folders]
        name = safe_name("".join(part.of(values) for part in self.name)) if self.name else None
        return "/".join(_no_file(one) for one in folders) or None, name


def safe_folder(text: str) -> str:
    """A relative folder as a row writes it, with ``/``, each part made a safe name.

    Raises:
        ValueError: it is absolute, empty, or leads upwards.
    """
    parts = text.replace("\\", "/").split("/")
    if not parts[-1]:
        parts.pop()
    if not parts or text[0] in "/\\~" or re.match(r"[A-Za-z]:", text):
        raise ValueError("an absolute path, or an empty one")
    if any(part.strip(". ") == "" for part in parts):
        raise ValueError("it leads out of the output folder, or has an empty part")
    if len(parts) > _MAX_PARTS:
        raise ValueError(f"it has more than {_MAX_PARTS} parts")
    return "/".join(_no_file(safe_name(safe_text(part))) for part in parts)


def safe_text(text: str) -> str:
    """``text`` as part of a name: nothing in it separates, controls or hides.

    Composed (NFC; the compatible forms would turn look-alikes into separators), blanks single.
    """
    composed = unicodedata.normalize("NFC", text)
    if not composed.isascii() or not composed.isprintable():
        composed = "".join(_kept(letter) for letter in composed)
        composed = unicodedata.normalize("NFC", composed)
    return " ".join("".join("_" if c in _FORBIDDEN else c for c in composed).split())


def safe_name(text: str, limit: int = MAX_BYTES) -> str:
    """``text``, which ``safe_text`` made or the user wrote, as one name of at most ``limit`` bytes.

    It is never empty, hidden, a device of Windows', or ends with what Windows drops.
    """
    name = cut(unicodedata.normalize("NFC", text), limit - 1).lstrip(". ").rstrip(". ")
    if not name:
        return "_"
    return f"_{name}" if _DEVICE.fullmatch(name) else name


def cut(text: str, limit: int) -> str:
    """As much of ``text`` as ``limit`` bytes of UTF-8 hold, no letter torn."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    kept = data[:limit].decode("utf-8", "ignore")
    # An accent that stood on a cut letter would stand on nothing, half an emoji would be another.
    while kept and unicodedata.combining(text[len(kept)]):
        kept = kept[:-1]
    return kept


def numbered(name: str, number: int) -> str:
    """``name`` with a number behind it, within the same length."""
    tail = f"_{number}"
    return safe_name(cut(name, MAX_BYTES - 1 - len(tail)).rstrip(". ") + tail)


def compared(folder: str | None, name: str) -> str:
    """What two names have in common where a file system takes them for the same."""
    return unicodedata.normalize("NFC", f"{folder or ''}/{name}".casefold())


def _kept(letter: str) -> str:
    category = unicodedata.category(letter)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    if category == "Cf":  # joiners too: a name is printable throughout
        return ""
    return "_" if category in ("Cs", "Cn", "Co") else letter


def _no_file(folder: str) -> str:
    """A folder's name that no file of a clip could have too."""
    return f"{folder}_" if folder.lower().endswith((".mp4", ".jpg", ".json")) else folder


def _parsed(text: str) -> list[_Part]:
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        _refuse(f"is no template: {error}")
    parts: list[_Part] = []
    for literal, column, wanted, conversion in pieces:
        if literal:
            parts.append(_Part(literal))
        if column is None:
            continue
        name = canonical(column)
        if conversion is not None or not name.isidentifier():
            _refuse(f"may hold only the names of columns between braces, not {column[:40]!r}")
        number, letters = _NUMBER.fullmatch(wanted or ""), _CUT.fullmatch(wanted or "")
        if wanted and number is None and letters is None:
            _refuse(f"has the format {wanted[:20]!r}, where only 3d, 03d and .40 are taken")
        parts.append(
            _Part(
                column=name,
                width=None if number is None else number[1] or "",
                cut=None if letters is None else max(1, int(letters[1])),
            )
        )
    return parts


def _check(template: str, parts: list[_Part]) -> None:
    """Refuse what the user wrote that leads anywhere or that some file system does not take."""
    written = "".join(part.text if part.column is None else "x" for part in parts)
    if not written or not written.strip(". "):
        _refuse("begins with /, leads upwards, or has an empty part")
    if template.lstrip().startswith("~") or any(
        letter in _FORBIDDEN or not letter.isprintable() for letter in written
    ):
        _refuse(f"holds a character that no name may have: {written[:60]!r}")
    if written.startswith((".", " ")):
        _refuse(f"makes hidden names: {written[:60]!r}")


def _refuse(what: str) -> NoReturn:
    raise InvalidRequest(f"output_template: {what}", hint=_HINT, field="output_template")
