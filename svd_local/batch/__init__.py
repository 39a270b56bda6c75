"""Batch: the clips of a manifest, validated before any is begun.

``read_manifest`` opens a list of clips, ``validate`` goes through all of it, and the ``Validation``
hands out the good ones as ``JobSpec``. Importing this package loads no torch.
"""

from __future__ import annotations

from svd_local.batch.manifest import Manifest, read_manifest
from svd_local.batch.problems import Problem
from svd_local.batch.spec import JobSpec
from svd_local.batch.validation import Validation, validate

__all__ = ["JobSpec", "Manifest", "Problem", "Validation", "read_manifest", "validate"]
