"""VideoGenerator: from a request to a published clip."""

from __future__ import annotations

from svd_local.generator.delivery import Delivery, read_record
from svd_local.generator.oneoff import generate, status
from svd_local.generator.seeds import draw_seed
from svd_local.generator.story import VideoGenerator

__all__ = ["Delivery", "VideoGenerator", "draw_seed", "generate", "read_record", "status"]
