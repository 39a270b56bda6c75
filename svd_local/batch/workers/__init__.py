"""Worker processes of a batch: one a GPU, each watched, replaced where it dies.

``supervise_batch`` is ``run_batch`` over such workers. ``protocol`` has what a worker and whoever
watches it say to one another, for other runners too. Importing this package loads no torch.
"""

from __future__ import annotations

from svd_local.batch.workers.supervise import supervise_batch

__all__ = ["supervise_batch"]
