"""Batch: the clips of a manifest, one after the other."""

from __future__ import annotations

from svd_local.batch.spec import JobSpec

__all__ = ["JobSpec"]
