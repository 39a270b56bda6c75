"""Deep features that outlive their step (DeepCache, arXiv 2312.00858): approximate, and named so.

From one denoising step to the next the coarse levels of the UNet change little. So on most steps only
the first part of the way down and the last part of the way up run; what the rest would have handed to
that last part is kept from the last whole step. Nothing else of a step is reused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from svd_local.engine.values import Caching


class DeepFeature:
    """What one run through the network keeps for the next: the map that enters the last layers.

    Args:
        depth: see `values.Caching`.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._kept: Tensor | None = None

    @property
    def is_kept(self) -> bool:
        """Whether there is one, so that the network need not run as a whole."""
        return self._kept is not None

    def keep(self, x: Tensor) -> None:
        """Have ``x``, which nobody changes any more, for later steps; it may lie in host memory."""
        self._kept = x

    def kept(self, device: torch.device) -> Tensor:
        """The feature on ``device``. It stays; nobody may change it."""
        assert self._kept is not None
        return self._kept.to(device, non_blocking=True)

    def forget(self) -> None:
        """Make the next run a whole one."""
        self._kept = None


class DeepCache:
    """A clip's deep features: one for each part of the batch that runs by itself.

    Args:
        caching: which steps run as a whole, and how deep the others go.
    """

    def __init__(self, caching: Caching) -> None:
        self._caching = caching
        self._features: dict[int, DeepFeature] = {}

    def begin(self, step: int) -> None:
        """Before every step, in order: a whole one forgets what was kept before it."""
        if self._caching.whole(step):
            for feature in self._features.values():
                feature.forget()

    def of(self, part: int) -> DeepFeature:
        """The feature of one part of the batch."""
        return self._features.setdefault(part, DeepFeature(self._caching.depth))
