"""How every command ends: one JSON document or one line for people, and an exit status."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from svd_local.errors import Cancelled, SvdLocalError

if TYPE_CHECKING:
    from svd_local.settings import Settings


def emit(document: Mapping[str, Any]) -> None:
    """Print the command's one JSON document on standard output."""
    tell(json.dumps(document, indent=2, ensure_ascii=False))


def tell(text: str) -> None:
    """An answer, on standard output.

    A reader who left early has had enough, and the command ends as it would have. Where standard
    output is closed or full the answer is lost, which is said.
    """
    try:
        print(text, flush=True)
        if sys.stdout is not None:
            return
        problem = "it is closed"
    except BrokenPipeError:
        mute()
        return
    except OSError as error:
        mute()
        problem = str(error.strerror)
    say(f"svd-local: the answer could not be written to standard output: {problem}")
    raise typer.Exit(1)


def mute() -> None:
    """Let what is left in standard output's buffer go nowhere: Python would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr)


def printable(text: str) -> str:
    """``text`` without anything a terminal obeys; for what users wrote."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


@contextmanager
def ending(json_output: bool) -> Iterator[None]:
    """Turn whatever ends the command into its document, its message and its exit status."""
    try:
        yield
    except SvdLocalError as error:
        fail(error, json_output)
    except KeyboardInterrupt:
        fail(Cancelled("interrupted"), json_output)


def fail(error: SvdLocalError, json_output: bool) -> NoReturn:
    """End with ``error``: its document on standard output, or its message on standard error."""
    tried = error.attempts
    if json_output:
        emit(failure(error))
    else:
        for attempt in tried[:-1]:  # the last one is the error itself
            say(f"{attempt.tier}: {attempt.outcome}: {attempt.reason}")
        say(f"svd-local: {error.message}")
        if error.hint:
            say(error.hint)
    raise typer.Exit(error.exit_status)


def failure(error: SvdLocalError) -> dict[str, Any]:
    """The document of a failure, to which a command may add what it knows beside."""
    attempts = [attempt.to_json() for attempt in error.attempts]
    return {"success": False, "error": error.to_json(), "attempts": attempts}


def load_settings() -> Settings:
    """The machine's settings, ``.env`` included.

    Raises:
        InvalidRequest: a variable holds what it cannot mean.
    """
    from svd_local.settings import Settings, export_ecosystem

    export_ecosystem()
    return Settings.load()
