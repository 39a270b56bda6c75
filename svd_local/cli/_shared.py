"""How every command ends: one JSON document or one line for people, and an exit status."""

from __future__ import annotations

import json
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
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr)


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
        emit(
            {
                "success": False,
                "error": error.to_json(),
                "attempts": [attempt.to_json() for attempt in tried],
            }
        )
    else:
        for attempt in tried[:-1]:  # the last one is the error itself
            say(f"{attempt.tier}: {attempt.outcome}: {attempt.reason}")
        say(f"svd-local: {error.message}")
        if error.hint:
            say(error.hint)
    raise typer.Exit(error.exit_status)


def load_settings() -> Settings:
    """The machine's settings, ``.env`` included.

    Raises:
        InvalidRequest: a variable holds what it cannot mean.
    """
    from svd_local.settings import Settings, export_ecosystem

    export_ecosystem()
    return Settings.load()
