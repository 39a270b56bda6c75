"""Draw docs/illustrations.jpg anew: twelve keyframes composed from lesson titles, side by side.

Run it as ``python scripts/illustration_sheet.py`` after changing how illustrations are drawn, and
look at the result.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from svd_local.keyframe import compose

TARGET = Path(__file__).resolve().parent.parent / "docs" / "illustrations.jpg"
TITLES = (
    "Handling price objections",
    "Fire safety in the office",
    "Spotting phishing emails",
    "First aid at work",
    "Forklift and warehouse safety",
    "Managing your time",
    "Budgets and financial planning",
    "Protecting the environment",
    "Programming basics in Python",
    "Hand hygiene in hospitals",
    "Public speaking and presentations",
    "Space exploration",
)
COLUMNS, WIDTH, HEIGHT, GAP = 3, 480, 270, 12


def sheet() -> Image.Image:
    """The twelve, three in a row, on white."""
    rows = -(-len(TITLES) // COLUMNS)
    size = (COLUMNS * (WIDTH + GAP) + GAP, rows * (HEIGHT + GAP) + GAP)
    page = Image.new("RGB", size, "white")
    for number, title in enumerate(TITLES):
        row, column = divmod(number, COLUMNS)
        scene = compose(title, (2 * WIDTH, 2 * HEIGHT)).resize((WIDTH, HEIGHT))
        page.paste(scene, (GAP + column * (WIDTH + GAP), GAP + row * (HEIGHT + GAP)))
    return page


if __name__ == "__main__":
    sheet().save(TARGET, quality=88)
