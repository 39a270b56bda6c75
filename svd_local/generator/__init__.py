"""VideoGenerator: from a request to a published clip."""

from __future__ import annotations

from svd_local.generator.oneoff import generate, status
from svd_local.generator.seeds import draw_seed
from svd_local.generator.story import VideoGenerator

__all__ = ["VideoGenerator", "draw_seed", "generate", "status"]
