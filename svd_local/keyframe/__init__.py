"""From words or a picture to the keyframe a tier sets in motion, and the letters drawn over it.

Importing this package loads neither Pillow nor numpy; its functions do.
"""

from __future__ import annotations

from svd_local.keyframe.illustration import ILLUSTRATION_VERSION, compose
from svd_local.keyframe.make import (
    Pictures,
    TextToImage,
    make_keyframes,
    source_digests,
)
from svd_local.keyframe.overlay import render_overlay
from svd_local.keyframe.picture import check_picture, open_picture, picture_digest
from svd_local.keyframe.types import Keyframe, Overlays

__all__ = [
    "ILLUSTRATION_VERSION",
    "Keyframe",
    "Overlays",
    "Pictures",
    "TextToImage",
    "check_picture",
    "compose",
    "make_keyframes",
    "open_picture",
    "picture_digest",
    "render_overlay",
    "source_digests",
]
