"""Words without a picture: a composed illustration that has to do with them, without any letters.

Which icons stand in it follows from what the words mean (``vocabulary``), and how they are arranged
and coloured from the SHA-256 of the words. No letter is drawn: video models distort letters, which is
why a clip's title is laid over the finished frames instead.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from svd_local.keyframe import vocabulary

if TYPE_CHECKING:
    from PIL.Image import Image

    from svd_local.keyframe.scenes import Chance

ILLUSTRATION_VERSION = "2"
"""Raised whenever the code draws other pixels for the same words and icons."""

_HEROES = 3
"""So many of the aptest icons take turns in front, one variant each."""
_CHOICE = 9
"""The others are taken from so many of the aptest."""


def compose(prompt: str, size: tuple[int, int], *, variant: int = 0) -> Image:
    """An RGB illustration of ``prompt`` at ``size`` (width, height in pixels).

    The same words give the same pixels, on every machine. ``variant`` counts through further scenes
    of the same subject in the same colours, for pictures that fade into one another. The lowest
    third stays calm, so that a title can be read on it.
    """
    from svd_local.keyframe import layouts, scenes
    from svd_local.keyframe.canvas import Canvas
    from svd_local.keyframe.palettes import PALETTES

    words = " ".join(prompt.split()).casefold()
    whole, own = scenes.Chance(words), scenes.Chance(words, variant)
    stage = scenes.Stage(
        canvas=Canvas(size),
        palette=PALETTES[whole.pick("palette", len(PALETTES))],
        chance=own,
        cast=_cast(words, whole, variant, layouts.CAST),
        mirrored=own.unit("mirrored") < 0.5,
    )
    scenes.backdrop(stage)
    if stage.tall:
        layouts.tower(stage)
    else:
        # Counting on from a first one, so that variants differ in their layout too.
        first = whole.pick("layout", len(layouts.WIDE))
        layouts.WIDE[(first + variant) % len(layouts.WIDE)](stage)
    return stage.canvas.image()


def words_digest(prompt: str, *, variant: int = 0) -> str:
    """SHA-256, in hex, of everything ``compose(prompt, variant=variant)`` depends on: the words, the
    icons and their vocabulary, and how they are drawn.
    """
    digest = hashlib.sha256(f"illustration {ILLUSTRATION_VERSION} {variant}\n".encode())
    for name in ("index.json", "vocabulary.toml"):
        digest.update(hashlib.sha256((vocabulary.ICONS / name).read_bytes()).digest())
    digest.update(prompt.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _cast(words: str, chance: Chance, variant: int, count: int) -> tuple[str, ...]:
    """The icons of one scene: the hero first, then up to ``count`` - 1 others."""
    ranked = vocabulary.rank(words)
    if not ranked:
        neutral = vocabulary.load().subjects[vocabulary.NEUTRAL]
        ranked = chance.shuffled("neutral", neutral)
    for other in vocabulary.neighbours(ranked[0]):
        if len(ranked) < count and other not in ranked:
            ranked.append(other)
    heroes = ranked[:_HEROES]
    hero = heroes[variant % len(heroes)]
    others = [icon for icon in ranked[:_CHOICE] if icon != hero]
    # The aptest are always there; which of the rest join them is left to the words.
    rest = chance.shuffled(f"others {variant}", others[2:])
    return hero, *others[:2], *rest[: count - 3]
