"""What a clip should be: the request, and the parameters it comes to for a given checkpoint."""

from __future__ import annotations

from svd_local.request.effective import (
    CACHED_SPEEDS,
    GeneratedParameters,
    Native,
    StillsParameters,
    generated_parameters,
    output_size,
    stills_parameters,
)
from svd_local.request.model import TIER_IDS, ClipRequest
from svd_local.request.sizes import format_bytes, parse_bytes

__all__ = [
    "CACHED_SPEEDS",
    "TIER_IDS",
    "ClipRequest",
    "GeneratedParameters",
    "Native",
    "StillsParameters",
    "format_bytes",
    "generated_parameters",
    "output_size",
    "parse_bytes",
    "stills_parameters",
]
