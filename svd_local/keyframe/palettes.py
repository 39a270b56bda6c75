"""The colours a composed illustration may have. Chosen by eye; none is mixed by accident."""

from __future__ import annotations

from dataclasses import dataclass

from svd_local.keyframe.canvas import Colour, colour


@dataclass(frozen=True, slots=True)
class Palette:
    """Sky from top to bottom, hills from far to near, the ground, and light shapes before the sky."""

    sky: tuple[Colour, Colour]
    far: Colour
    near: Colour
    ground: tuple[Colour, Colour]
    light: Colour
    """Discs and cards, on which icons stand out."""
    accent: Colour
    """Small ornaments."""
    shade: Colour
    """Shadows."""


def _palette(codes: str) -> Palette:
    top, bottom, far, near, ground, deep, light, accent, shade = map(colour, codes.split())
    return Palette((top, bottom), far, near, (ground, deep), light, accent, shade)


PALETTES = tuple(
    _palette(codes)
    for codes in (
        # sky top, sky bottom, far, near, ground, ground below, light, accent, shade
        "#cfe6ff #f3f8ff #b9d6f7 #96bff0 #6f9fe0 #3f6fb8 #ffffff #ffb86b #24406e",  # clear sky
        "#ffe3d1 #fff6ec #fbc9b0 #f6ab90 #ec8a75 #b9564f #fffaf5 #5bb8b0 #6e2f2c",  # apricot
        "#d5f3ea #f4fcf8 #aee3d2 #82cfba #52b39c #2b7d70 #ffffff #ff9f80 #154a43",  # mint
        "#e5dcfb #f8f4ff #cdbdf3 #b09be8 #8e74d6 #5d45a6 #ffffff #ffb3c7 #332363",  # lavender
        "#fdeec9 #fffaec #f8dc98 #f2c469 #e5a544 #a96f22 #fffdf6 #5a8fd8 #5e3a0c",  # straw
        "#dff2d2 #f7fcf1 #bfe3aa #9bd084 #6fb360 #3f7d3f #ffffff #f7a35c #1f4a22",  # meadow
        "#ffdde6 #fff5f7 #f9bccb #f29ab1 #e0708f #a63f62 #fffafb #6fa8dc #5f1c36",  # rose
        "#cdeef5 #f2fbfd #a3dbe8 #74c4d8 #439fba #226c87 #ffffff #ffcf6b #0f3e50",  # lagoon
        "#e3e9f1 #f8fafc #c8d4e3 #a8b9cf #7e93b0 #4b5f7d #ffffff #ff9a76 #25344a",  # slate
        "#fde0c2 #fff4e3 #7fc4bd #55aaa6 #2f8588 #1b5a60 #fffaf2 #f28a6a #0d3338",  # beach
        "#2a3f78 #7e77b8 #5a5c9e #454885 #33376c #1f2149 #f3efff #ffc98a #0d0e2a",  # dusk
        "#12465a #4aa3a6 #2f7f88 #226874 #18505d #0b2f3a #effcf9 #ffd27d #04181f",  # deep sea
        "#4b2f63 #d77f93 #a8628c #824b7c #5f386a #381f47 #fff2ef #ffd08a #1d0d28",  # sunset
        "#173a6b #5f9ad6 #3f77ba #2f60a0 #234b84 #132b54 #f0f7ff #ffbf69 #07152e",  # blue hour
    )
)
