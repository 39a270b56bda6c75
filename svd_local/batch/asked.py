"""What a batch was asked with: the options that are part of what its clips are.

A row whose options change is another clip: the same command with other options would make all of them
anew, beside those that are there. So the first command's are kept with the batch, and later ones are
held against them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from svd_local.catalog.jobs import Batch

_FILES = ("image", "images")


def asked(defaults: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """The options as they are kept: plain values by their names, files absolute, what was not given left out."""
    given = {**defaults, **{name: value for name, value in others.items() if value}}
    for name in _FILES:
        value = given.get(name)
        if isinstance(value, list):
            given[name] = [str(Path(path).expanduser().absolute()) for path in value]
        elif value is not None:
            given[name] = str(Path(value).expanduser().absolute())
    plain: dict[str, Any] = json.loads(json.dumps(given, default=str))
    return plain


def differences(batch: Batch, now: Mapping[str, Any] | None) -> list[str]:
    """How ``now`` differs from what the batch began with, an option each, in words; [] where nothing is known."""
    then = batch.options
    if then is None or now is None:
        return []
    return [
        f"{_dashed(name)} {_word(then, name)}, now {_word(now, name)}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]


def command_of(batch: Batch) -> str | None:
    """The command that goes on with ``batch``; None where it is not known."""
    if batch.options is None or batch.manifest is None:
        return None
    words = ["svd-local", "batch", batch.manifest, "--out", batch.folder, "--name", batch.name]
    for name, value in batch.options.items():
        option = "image" if name == "images" else name
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{_dashed(option)}"] if one is True else [f"--{_dashed(option)}", str(one)]
    return shlex.join(words)


def _word(options: Mapping[str, Any], name: str) -> str:
    value = options.get(name)
    return "not given" if value is None else str(value)


def _dashed(name: str) -> str:
    return name.replace("_", "-")
