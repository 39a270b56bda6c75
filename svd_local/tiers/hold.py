"""The local tier's hold on its GPU, and how it is lost."""

from __future__ import annotations

from svd_local.engine.context import LOST_HINT, why_lost
from svd_local.errors import DeviceLost
from svd_local.tiers.gpus import no_cuda


class Hold:
    """Whether the GPU still answers this process, as far as its clips have shown. Once lost, it stays so."""

    def __init__(self) -> None:
        self._used = False
        self._why: str | None = None

    @property
    def lost(self) -> bool:
        return self._why is not None

    def use(self) -> None:
        """A clip is about to be made on the GPU.

        Raises:
            DeviceLost: as ``require`` does.
        """
        self.require()
        self._used = True

    def require(self) -> None:
        """Tell a GPU that went away from one that never was: nothing else silently stands in for it.

        Raises:
            DeviceLost: it was used before, and answers no more.
        """
        if self._why is None and self._used:
            self._why = no_cuda()
        if self._why is not None:
            raise self._error()

    def judge(self, error: Exception) -> None:
        """Ask the GPU whether ``error``, met on it, was its last.

        Raises:
            DeviceLost: it was; ``error`` is its cause.
        """
        self._why = self._why or why_lost()
        if self._why is not None:
            raise self._error() from error

    def _error(self) -> DeviceLost:
        """A new one for each clip: an error carries the story of its clip."""
        return DeviceLost(f"the GPU answers this process no more: {self._why}", hint=LOST_HINT)
