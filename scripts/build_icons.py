#!/usr/bin/env python3
"""Draw the icons of the composed illustrations anew. For maintainers; nothing of it runs at a user's.

The source is Microsoft's Fluent Emoji (MIT) as the npm package ``@iconify-json/fluent-emoji``, whose
``icons.json`` holds every drawing as SVG. Which of them are taken is told by
``svd_local/keyframe/icons/vocabulary.toml``. Each becomes one WebP with alpha, trimmed to what is
drawn; ``index.json`` beside them records the source and every file's SHA-256.

    npm pack @iconify-json/fluent-emoji && tar xzf iconify-json-fluent-emoji-*.tgz
    pip install resvg-py pillow
    python scripts/build_icons.py package/icons.json
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tomllib
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

ICONS = Path(__file__).resolve().parent.parent / "svd_local" / "keyframe" / "icons"
SIDE = 384
"""Longest side of a finished icon, in pixels."""
OVERSAMPLING = 2
"""Drawn this much larger and reduced: the renderer leaves clipped edges hard."""


def draw(body: str, width: float, height: float) -> Image.Image:
    """One drawing, RGBA, trimmed, its longest side ``SIDE``."""
    side = SIDE * OVERSAMPLING
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="{side}" height="{side}">{body}</svg>'
    )
    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    box = drawn.getchannel("A").point(lambda value: 255 if value > 8 else 0).getbbox()
    if box is None:
        raise SystemExit("a drawing is empty")
    # Reduced with premultiplied alpha, or what is invisible would tint the edges.
    trimmed = drawn.crop(box).convert("RGBa")
    scale = SIDE / max(trimmed.size)
    size = (max(1, round(trimmed.width * scale)), max(1, round(trimmed.height * scale)))
    return trimmed.resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def encode(image: Image.Image) -> bytes:
    """``image`` as WebP: small, and good enough that nobody sees it at twice its size."""
    out = io.BytesIO()
    image.save(out, "WEBP", quality=78, alpha_quality=90, method=6)
    return out.getvalue()


def build(source: Path) -> dict[str, Any]:
    """Draw what the vocabulary names into ``ICONS`` and give the index's content."""
    names = sorted(tomllib.loads((ICONS / "vocabulary.toml").read_text("utf-8"))["icons"])
    collection = json.loads(source.read_text("utf-8"))
    drawings = collection["icons"]
    missing = [name for name in names if name not in drawings]
    if missing:
        raise SystemExit(f"the source has no icon called {', '.join(missing)}")
    default = collection.get("width", 32), collection.get("height", 32)
    digests = {}
    for name in names:
        drawing = drawings[name]
        size = drawing.get("width", default[0]), drawing.get("height", default[1])
        data = encode(draw(drawing["body"], *size))
        (ICONS / f"{name}.webp").write_bytes(data)
        digests[name] = hashlib.sha256(data).hexdigest()
    for stale in set(ICONS.glob("*.webp")) - {ICONS / f"{name}.webp" for name in names}:
        stale.unlink()
    return {
        "source": "Fluent Emoji, Microsoft Corporation, MIT; npm @iconify-json/fluent-emoji",
        "side": SIDE,
        "icons": digests,
    }


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="icons.json of @iconify-json/fluent-emoji")
    index = build(parser.parse_args().source)
    (ICONS / "index.json").write_text(json.dumps(index, indent=1) + "\n", "utf-8")
    total = sum(path.stat().st_size for path in ICONS.glob("*.webp"))
    print(f"{len(index['icons'])} icons, {total / 1e6:.2f} MB in {ICONS}")


if __name__ == "__main__":
    main()
