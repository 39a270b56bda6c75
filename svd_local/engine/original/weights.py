"""A weight of a network and its place in the original layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Form = Literal["same", "kernel", "turned", "query", "key", "value", "identity"]
"""How the file holds a weight: as it is; a linear's as a 1x1 convolution's; with its axes exchanged;
as the first, second or last third of the rows; or not at all, because it would change nothing.
"""
THIRDS: tuple[Form, ...] = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class Weight:
    """``name`` and ``shape`` within the network, ``source`` within the file."""

    name: str
    shape: tuple[int, ...]
    source: str
    form: Form = "same"

    @property
    def source_shape(self) -> tuple[int, ...]:
        """The shape that the file has it in."""
        if self.form == "kernel":
            return (*self.shape, 1, 1)
        if self.form == "turned":
            return self.shape[::-1]
        if self.form in THIRDS:
            return (3 * self.shape[0], *self.shape[1:])
        return self.shape


def within(name: str, source: str, weights: Iterable[Weight]) -> Iterator[Weight]:
    """``weights`` of a part, as those of the whole that has it at ``name`` and at ``source``."""
    for weight in weights:
        yield dataclasses.replace(
            weight, name=f"{name}.{weight.name}", source=f"{source}.{weight.source}"
        )


def affine(name: str, source: str, *shape: int) -> Iterator[Weight]:
    """A weight and its bias, which has the first of the sides."""
    yield Weight(f"{name}.weight", shape, f"{source}.weight")
    yield Weight(f"{name}.bias", shape[:1], f"{source}.bias")


def conv(name: str, source: str, channels: int, out: int, *, side: int = 3) -> Iterator[Weight]:
    """A convolution over a picture."""
    return affine(name, source, out, channels, side, side)


def norm(name: str, source: str, channels: int) -> Iterator[Weight]:
    """A group or layer norm."""
    return affine(name, source, channels)


def linear(name: str, source: str, channels: int, out: int) -> Iterator[Weight]:
    """A linear with a bias."""
    return affine(name, source, out, channels)
