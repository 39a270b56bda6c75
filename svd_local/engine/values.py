"""What an engine is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"
"""uint8 of shape (n, height, width, 3), RGB."""

Schedule = Literal["karras", "align-your-steps", "consistency"]
"""``consistency`` is that of distilled checkpoints, which bring their own scheduler."""

Report = Callable[[str, int, int], None]
"""Told the stage (``encode-image``, ``denoise``, ``decode``), what of it is done, and of how much."""
Check = Callable[[], None]
"""Raises where the clip is to be stopped; called between steps and between decoded chunks."""


@dataclass(frozen=True, slots=True)
class Caching:
    """Reuse of the UNet's deep features from step to step (DeepCache, arXiv 2312.00858): approximate.

    Attributes:
        interval: every ``interval``-th step runs the whole network, beginning with the first; the
            steps between reuse the last whole one's deep feature.
        depth: how many results of the way down are computed on those, counted from conv_in's own,
            which always is; as many layers of the way up and one more use them.
    """

    interval: int
    depth: int

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            ValueError: an interval or a depth below one.
        """
        if self.interval < 1 or self.depth < 1:
            raise ValueError(f"caching needs an interval and a depth of at least 1, not {self}")

    def whole(self, step: int) -> bool:
        """Whether ``step``, counted from 0, runs the whole network."""
        return step % self.interval == 0


@dataclass(frozen=True, slots=True)
class Sampling:
    """One clip's parameters, each within the model's range.

    ``fps`` is the playback rate the model is told; the pipeline itself subtracts the 1 that the
    training did. ``width`` and ``height`` are multiples of 8. ``decode_chunk`` is how many frames
    the decoder sees at once: it changes pixels, and ``frames`` is what the bare pipeline takes.
    ``caching`` and ``fp8`` (see `fused.fp8`) are understood by the fused engine alone; where they are
    left out a clip is exact.
    """

    seed: int
    frames: int
    fps: int
    steps: int
    schedule: Schedule
    motion: int
    noise: float
    guidance: tuple[float, float]
    width: int
    height: int
    decode_chunk: int
    caching: Caching | None = None
    fp8: bool = False

    @property
    def guided(self) -> bool:
        """Whether every step runs twice: with the picture and without."""
        return self.guidance[1] > 1.0


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds an engine worked, by phase; what its frames' receiver did meanwhile is not counted.

    ``decode_s`` ends when the last frame is in main memory.
    """

    encode_image_s: float
    denoise_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class Rendered(Phases):
    """Finished frames, uint8 of shape (frames, height, width, 3), RGB, and seconds per phase."""

    frames: Pixels


class UnusableFrames(Exception):
    """The networks gave NaN, or black where the picture is not. Caught within the engine.

    It may come after frames were handed out: those are void then.
    """


def ignore_report(stage: str, done: int, total: int) -> None:
    """For callers that want no progress."""


def ignore_check() -> None:
    """For callers that never stop a clip."""
