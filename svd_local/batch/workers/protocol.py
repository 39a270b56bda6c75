"""What a worker process and its supervisor say to one another: one JSON document a line.

Down to the worker, on its standard input: first an ``Order``, then the words ``stop`` and ``cancel``.
The end of the input means that the supervisor is gone. Up from the worker: ``Hello``, then every event
of ``batch.events`` as it happens, and ``Failed`` where it could not go on; among them, from its first
moment to its last, ``Alive``. Its exit status sums up:

    0   every job of the batch is over, or it was asked to stop
    1   it could not go on; ``Failed`` says why
    2   the machine's settings, or the batch, mean nothing to it: another worker would fare no better
    75  its GPU answers it no more: another process may fare better

All are plain text in ASCII, so that no name of a file can break them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import SecretStr, TypeAdapter, ValidationError

from svd_local.batch.events import Event
from svd_local.batch.options import BatchOptions
from svd_local.errors import SvdLocalError
from svd_local.settings import Settings

STOP = "stop"
"""Finish the clips at hand, then end."""
CANCEL = "cancel"
"""Give the jobs at hand back, and end."""

DEVICE_LOST = 75
"""Exit status of a worker whose GPU answers it no more (EX_TEMPFAIL)."""


@dataclass(frozen=True, slots=True)
class Alive:
    """The worker's process is not frozen, whatever its clips do."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker is up. ``name`` is what it takes jobs under."""

    name: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker cannot go on, and ends."""

    code: str
    message: str
    hint: str = ""
    field: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """What an error says of itself."""
        if isinstance(error, SvdLocalError):
            return cls(error.code, error.message, error.hint, error.field)
        return cls("bug", f"a bug in svd_local: {error!r}", "Please report it.")


Message = Event | Alive | Hello | Failed


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do: an enrolled batch, on a machine set up like the supervisor's."""

    settings: Mapping[str, Any]
    """As of ``settings_document``: tokens are in it, so it goes through a pipe, never a command line."""
    batch: str
    """The batch's id in the catalog that ``settings`` name."""
    options: BatchOptions
    gpu: bool = False
    """Whether the worker has a GPU to itself, and ends where that does not answer."""

    def to_line(self) -> str:
        return json.dumps(_ORDER.dump_python(self, mode="json"))

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Raises ``ValueError`` for what is none."""
        order = _ORDER.validate_python(json.loads(line))
        assert isinstance(order, cls)
        return order

    def to_settings(self) -> Settings:
        """Raises ``InvalidRequest`` where they mean nothing."""
        return Settings.load(**self.settings)


_ORDER: TypeAdapter[Order] = TypeAdapter(Order)


def settings_document(settings: Settings) -> dict[str, Any]:
    """Every setting as JSON, tokens in the open: what ``Settings.load`` takes on the other side."""
    return {name: _plain(getattr(settings, name)) for name in type(settings).model_fields}


def to_line(message: Message) -> str:
    """A message as one line, without its end."""
    name = type(message).__name__
    return json.dumps({"is": name, "of": _adapter(name).dump_python(message, mode="json")})


def from_line(line: str | bytes) -> Message:
    """The message a line says.

    Raises:
        ValueError: it says none.
    """
    try:
        document = json.loads(line)
        message: Message = _adapter(document["is"]).validate_python(document["of"])
    except (KeyError, TypeError, UnicodeDecodeError, ValidationError) as error:
        raise ValueError(f"no message of a worker: {str(error)[:200]}") from error
    return message


_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (*get_args(Event), Alive, Hello, Failed)
}


@functools.cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KINDS[name])


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value
