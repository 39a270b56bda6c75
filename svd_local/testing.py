"""What tests of programs that use this package need: a tier that asks for no model and no GPU."""

from __future__ import annotations

from svd_local.tiers.fake import FakeTier

__all__ = ["FakeTier"]
