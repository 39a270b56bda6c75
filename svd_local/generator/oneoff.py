"""Module-level calls for programs that make one clip and leave."""

from __future__ import annotations

from typing import Any

from svd_local.generator.story import VideoGenerator
from svd_local.request import ClipRequest
from svd_local.result import Clip, ProgressCallback


def generate(
    request: ClipRequest | None = None,
    *,
    progress: ProgressCallback | None = None,
    **fields: Any,
) -> Clip:
    """Make one clip with a generator of its own; see ``VideoGenerator.generate``.

    Every call loads the model anew: keep a ``VideoGenerator`` for more than one clip.
    """
    with VideoGenerator() as generator:
        return generator.generate(request, progress=progress, **fields)


def status(*, deep: bool = False) -> dict[str, Any]:
    """What this machine can do; see ``VideoGenerator.status``."""
    with VideoGenerator() as generator:
        return generator.status(deep=deep)
