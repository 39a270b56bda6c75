"""How a session hands out a clip: take by take.

`Session.make` is a stream of this form::

    Take, pixels, pixels, ..., [Take, pixels, pixels, ...]  ->  Made

A `Take` says how the frames after it are made, as far as that changes pixels. *It voids every frame
that came before it*: something went wrong after they had been handed out (NaN in a later frame, a
clip that turned out all black, memory that ran out), and the next take makes the clip anew. Whoever
encodes them begins again; whatever was begun of a void take must not be published. Frames count once
the stream has ended with its `Made`; a stream that raises, or is closed, made no clip.

Nearly all that can go wrong does so before the first frame, which is also when a `Take` comes: a
second one is rare.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, TypeAlias

from svd_local.engine.streams import drained, joined
from svd_local.result import Memory

if TYPE_CHECKING:
    from svd_local.engine.values import Phases, Pixels

Engine = Literal["fused", "reference"]


@dataclass(frozen=True, slots=True)
class Take:
    """How the frames that follow are made. Void is what came before."""

    engine: Engine
    """The one that runs, which need not be the one asked for."""
    precision: str
    decode_chunk: int | None
    """Frames decoded at once; None on the fused engine, which decodes all together."""


@dataclass(frozen=True, slots=True)
class Made(Take):
    """How a finished clip was made: its last take, and what is known only now."""

    phases: Phases
    load_s: float
    memory: Memory
    notes: tuple[str, ...] = ()
    """What the user should know: steps down, a second try, another engine."""


Stream: TypeAlias = "Generator[Take | Pixels, None, Made]"
"""See the head of this file. Pixels are uint8 of shape (n, height, width, 3), RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered(Made):
    """A finished clip with all of its frames: uint8 of shape (frames, height, width, 3), RGB."""

    frames: Pixels


def gathered(stream: Stream) -> Gathered:
    """The clip of a stream's last take, for those who have no use for its frames one by one."""
    items, made = drained(stream)
    frames: list[Pixels] = []
    for item in items:
        if isinstance(item, Take):
            frames.clear()
        else:
            frames.append(item)
    return Gathered(
        **{field.name: getattr(made, field.name) for field in fields(Made)}, frames=joined(frames)
    )
