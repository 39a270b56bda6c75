"""From a request to its keyframes, and to the digests of what they are made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from svd_local.keyframe.fit import fit
from svd_local.keyframe.illustration import compose, words_digest
from svd_local.keyframe.picture import open_with_digest, picture_digest
from svd_local.keyframe.types import Keyframe
from svd_local.request import ClipRequest

if TYPE_CHECKING:
    from PIL.Image import Image

Pictures = Literal["first", "all", "none"]
TextToImage = Callable[[str, tuple[int, int]], "Image"]
"""Makes a picture of words at about a size (width, height in pixels)."""

SCENES = 3
"""How many scenes of one subject follow each other where words are shown as several pictures."""


def make_keyframes(
    request: ClipRequest,
    size: tuple[int, int],
    *,
    pictures: Pictures = "first",
    text2image: TextToImage | None = None,
) -> tuple[Keyframe, ...]:
    """The pictures to set in motion, RGB at exactly ``size`` (width, height in pixels).

    Pictures of the request come before its words: ``first`` takes one, ``all`` every one, ``none``
    none. Words alone become one picture by ``text2image`` where it is given, else a composed
    illustration (three scenes of it for ``all``); ``origin`` says which.

    Raises:
        ImageRejected: a picture cannot be used; the error's field is ``image`` or ``images``.
    """
    sources = _sources(request, pictures)
    if sources:
        return tuple(_from_picture(source, field, request, size) for source, field in sources)
    if request.prompt is None or pictures == "none":
        return ()
    if text2image is not None:
        made = text2image(request.prompt, size).convert("RGB")
        return (Keyframe(fit(made, size), _words_only(request.prompt), "text2image"),)
    return tuple(
        Keyframe(
            compose(request.prompt, size, variant=variant),
            words_digest(request.prompt, variant=variant),
            "illustration",
        )
        for variant in range(_scenes(pictures))
    )


def source_digests(request: ClipRequest, *, pictures: Pictures = "first") -> dict[str, Any]:
    """What the keyframes and the overlay's logo are made from, by content; JSON-able.

    ``pictures`` lists the SHA-256 (hex) of each picture that counts, or, for words alone, of each
    scene's words, icons and drawing; ``logo`` is that of the logo's file, or None. Nothing is drawn.

    Raises:
        ImageRejected: a file cannot be read; what it holds is not looked at.
    """
    sources = _sources(request, pictures)
    digests = [picture_digest(source, field=field) for source, field in sources]
    if not digests and request.prompt is not None and pictures != "none":
        digests = [words_digest(request.prompt, variant=v) for v in range(_scenes(pictures))]
    logo = None if request.logo is None else picture_digest(request.logo, field="logo")
    return {"pictures": digests, "logo": logo}


def _sources(request: ClipRequest, pictures: Pictures) -> list[tuple[Path | bytes, str]]:
    """The request's pictures that count, each with the field it came in."""
    own = [] if request.image is None else [(request.image, "image")]
    sources = [*own, *((further, "images") for further in request.images)]
    return {"first": sources[:1], "all": sources, "none": []}[pictures]


def _from_picture(
    source: Path | bytes, field: str, request: ClipRequest, size: tuple[int, int]
) -> Keyframe:
    image, digest = open_with_digest(source, background=request.background, field=field)
    return Keyframe(fit(image, size, request.fit), digest, "picture")


def _scenes(pictures: Pictures) -> int:
    return SCENES if pictures == "all" else 1


def _words_only(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()
