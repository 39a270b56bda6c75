"""The options that say what a clip should be, for other commands than ``generate``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from svd_local.cli.generate import generate

_NOT_OF_THE_CLIP = ("out", "json_output")


def takes_request_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option of ``generate`` beside its own; its ``**fields`` takes their values.

    What is an option of ``generate`` is one of the command by construction.
    """
    own = inspect.signature(command, eval_str=True)
    theirs = inspect.signature(generate, eval_str=True)
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    added = [p for name, p in theirs.parameters.items() if name not in _NOT_OF_THE_CLIP]
    merged = own.replace(parameters=[*parameters, *added])
    command.__signature__ = merged  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in merged.parameters.values()}
    return command


def typed_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were typed, as fields of ``ClipRequest`` and ``count``."""
    usual = inspect.signature(generate).parameters
    typed = {
        name: value for name, value in options.items() if value not in (None, usual[name].default)
    }
    pictures = typed.pop("image", [])
    if pictures:
        typed["image"] = pictures[0]
    if len(pictures) > 1:
        typed["images"] = pictures[1:]
    return typed
