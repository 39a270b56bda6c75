"""What the options of all measurements have in common: values refused before any work, errors in one line."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from svd_local.errors import SvdLocalError

GIB = 2**30
MULTIPLE = 8
"""Pixels of a side come in so many: the networks' maps are that much smaller."""
_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>GiB|MiB|)", re.IGNORECASE)

T = TypeVar("T")


def run(main: Callable[[], int | None]) -> None:
    """Call ``main`` as a program's: an error of svd_local ends it with one line and what to do, status 1."""
    try:
        status = main()
    except SvdLocalError as error:
        sys.exit(f"{error.message}. {error.hint}".strip())
    sys.exit(status)


def count(text: str, least: int = 1) -> int:
    """A whole number of things, ``least`` or more.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
    return value


def count_or_none(text: str) -> int:
    """As `count`, 0 among them."""
    return count(text, 0)


def side(text: str) -> int:
    """Pixels of a picture's side.

    Raises:
        argparse.ArgumentTypeError: no multiple of 8 above zero.
    """
    value = count(text)
    if value % MULTIPLE:
        near = max(MULTIPLE, round(value / MULTIPLE) * MULTIPLE)
        raise argparse.ArgumentTypeError(
            f"{text} is no multiple of {MULTIPLE} pixels; {near} is near"
        )
    return value


def seconds(text: str) -> float:
    """A time above zero.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above zero")
    return value


def gib(text: str) -> float:
    """An amount of memory in GiB: ``4``, ``4GiB`` or ``500MiB``.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    match = _AMOUNT.fullmatch(text.strip())
    value = 0.0 if match is None else float(match["number"])
    if match is None or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of memory such as 4, 4GiB, 500MiB")
    return value / 1024 if match["unit"].lower() == "mib" else value


def several(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Values of a kind, separated by commas."""

    def values(text: str) -> list[T]:
        return [kind(part.strip()) for part in text.split(",")]

    return values


def target(text: str) -> Path:
    """A file to be written: that this will fail is better known before the work than after it.

    Raises:
        argparse.ArgumentTypeError: a folder of that name, or a place where nothing can be written.
    """
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file")
    place = next(parent for parent in path.absolute().parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise argparse.ArgumentTypeError(f"nothing can be written into {place}")
    return path


def existing(text: str) -> Path:
    """A file to be read.

    Raises:
        argparse.ArgumentTypeError: there is none.
    """
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path
