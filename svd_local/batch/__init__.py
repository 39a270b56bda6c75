"""Batch: the clips of a manifest, validated before any is begun.

``read_manifest`` opens a list of clips, ``validate`` goes through all of it, and the ``Validation``
hands out the good ones as ``JobSpec``; ``run_batch`` makes them. Importing this package loads no torch.
"""

from __future__ import annotations

from svd_local.batch.manifest import Manifest, read_manifest
from svd_local.batch.options import BatchOptions, batch_name
from svd_local.batch.problems import Problem
from svd_local.batch.run import run_batch
from svd_local.batch.spec import JobSpec
from svd_local.batch.summary import BatchSummary
from svd_local.batch.validation import Validation, validate

__all__ = [
    "BatchOptions",
    "BatchSummary",
    "JobSpec",
    "Manifest",
    "Problem",
    "Validation",
    "batch_name",
    "read_manifest",
    "run_batch",
    "validate",
]
