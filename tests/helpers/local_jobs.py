"""Clips asked of the local tier, as a generator would ask."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from svd_local.keyframe.types import Keyframe
from svd_local.request import ClipRequest
from svd_local.tiers.base import Job, Monitor, Tier

TINY: dict[str, Any] = {"checkpoint": "tiny-svd", "device": "cpu", "steps": 1, "size": (64, 64)}
"""Fields of the cheapest request."""


def job_of(tier: Tier, request: ClipRequest, **options: Any) -> Job:
    """The planned job, from a gradient."""
    plan = tier.plan(request)
    if plan.parameters["seed"] is None:
        plan = plan.seeded(7)
    image = Image.linear_gradient("L").resize(plan.size).convert("RGB")
    return Job(request, plan, (Keyframe(image, "0" * 64, "picture"),), Monitor(**options))


def frames_of(tier: Tier, job: Job) -> np.ndarray[Any, Any]:
    """The job's frames, (frames, height, width, 3)."""
    return np.concatenate(list(tier.generate(job).chunks))
