"""The values a keyframe is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

Origin = Literal["picture", "text2image", "illustration"]


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A picture to set in motion: RGB, at exactly the size the tier asked for.

    ``digest`` is the SHA-256 of the source (the picture file's bytes, or the words), in hex;
    ``origin`` says what kind of source that was.
    """

    image: Image
    digest: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Overlays:
    """The letters and the logo drawn over finished frames, because video models distort letters."""

    title: str | None = None
    caption: str | None = None
    logo: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.title or self.caption or self.logo)
