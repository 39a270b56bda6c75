"""Where the down path's results wait for the up path: on the device, or in host memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class SkipStore(Protocol):
    """Tensors (b, f, h, w, c), last in, first out."""

    def push(self, skip: Tensor) -> None:
        """Keep ``skip``, which nobody changes any more."""

    def pop(self) -> Tensor:
        """The latest one, on the device or in host memory."""

    def size(self) -> tuple[int, int] | None:
        """Height and width of the latest one; None when none is left."""

    def outlasting(self, x: Tensor) -> Tensor:
        """``x``, which nobody changes any more, in the memory where what outlasts the step waits."""


class ResidentSkips:
    """Keeps the tensors as they are."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def push(self, skip: Tensor) -> None:
        """Keep ``skip``."""
        self._kept.append(skip)

    def pop(self) -> Tensor:
        """The latest one."""
        return self._kept.pop()

    def size(self) -> tuple[int, int] | None:
        """Height and width of the latest one; None when none is left."""
        if not self._kept:
            return None
        height, width = self._kept[-1].shape[2:4]
        return height, width

    def outlasting(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x


class HostSkips(ResidentSkips):
    """Keeps copies in host memory; they come back piece by piece where they are used."""

    def push(self, skip: Tensor) -> None:
        """Keep a copy of ``skip``."""
        super().push(to_host(skip))

    def outlasting(self, x: Tensor) -> Tensor:
        """A copy of ``x`` in host memory."""
        return to_host(x)


def to_host(tensor: Tensor) -> Tensor:
    """A copy in host memory, pinned where there is CUDA, so that it overlaps with the work."""
    import torch

    pinned = torch.cuda.is_available()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pinned)
    return host.copy_(tensor, non_blocking=True)
