"""Batch: the clips of a manifest, validated before any is begun.

``read_manifest`` opens a list of clips, ``validate`` goes through all of it, and the ``Validation``
hands out the good ones as ``JobSpec``. Importing this package loads no torch.

Two calls make them, with the same arguments, events (``events``) and summary (``summary``):

``batch.workers.supervise_batch``
    by a watched process on each GPU, which is what a night wants; takes ``workers`` and ``gpus``
    besides. Where there is no GPU, or with ``workers=0``, it is ``run_batch``.
``batch.run.run_batch``
    in this process, by a generator that the caller may have loaded.

``batch.workers.protocol`` has the events as lines of JSON, for runners elsewhere.
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
