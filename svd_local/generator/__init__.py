"""VideoGenerator: from a request to a published clip."""

from __future__ import annotations

from svd_local.generator.delivery import Delivery, read_record
from svd_local.generator.finding import find
from svd_local.generator.oneoff import generate, status
from svd_local.generator.parcel import Parcel, pack, publish_parcel
from svd_local.generator.seeds import draw_seed
from svd_local.generator.story import VideoGenerator

__all__ = [
    "Delivery",
    "Parcel",
    "VideoGenerator",
    "draw_seed",
    "find",
    "generate",
    "pack",
    "publish_parcel",
    "read_record",
    "status",
]
