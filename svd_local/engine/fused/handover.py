"""Pictures from the decoder to main memory, as bytes, while the next one is decoded.

A picture is made uint8 on its device. On CUDA it is copied on a stream of its own into one of a few
pinned buffers, and an event tells when it is there: the host waits for the frame before the one the
GPU was just given, so the GPU always has work. Elsewhere a frame is in main memory as it is made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import TYPE_CHECKING, Protocol

from svd_local.engine.fused.decoder_parts import to_bytes
from svd_local.engine.values import UnusableFrames

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from svd_local.engine.values import Pixels

BEHIND = 1
"""Frames by which the host is behind the decoder."""


class Slot(Protocol):
    """Room for one frame on its way. What was sent is received before anything else is sent."""

    def send(self, picture: Tensor) -> None:
        """Begin to fetch a picture (1, 1, h, w, 3), about -1 to 1; need not wait for it."""

    def receive(self) -> tuple[Pixels, bool]:
        """Wait for it: uint8 (1, h, w, 3), the caller's own, and whether every value was finite."""


def handed_over(pictures: Iterable[Tensor], slots: list[Slot]) -> Iterator[Pixels]:
    """The pictures as bytes (1, h, w, 3), in order, each `BEHIND` pictures late.

    Args:
        pictures: each (1, 1, h, w, 3), about -1 to 1.
        slots: more than `BEHIND`; see `slots_for`.

    Raises:
        UnusableFrames: a picture has a value that is not finite; those before it were handed out.
    """
    on_the_way: deque[Slot] = deque()
    for picture, slot in zip(pictures, cycle(slots), strict=False):
        slot.send(picture)
        on_the_way.append(slot)
        if len(on_the_way) > BEHIND:
            yield _received(on_the_way.popleft())
    while on_the_way:
        yield _received(on_the_way.popleft())


def slots_for(device: torch.device) -> list[Slot]:
    """As many as are needed, of the kind that suits the device."""
    import torch

    if device.type != "cuda":
        return [_HostSlot() for _ in range(BEHIND + 1)]
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return [_PinnedSlot(stream) for _ in range(BEHIND + 1)]


def _received(slot: Slot) -> Pixels:
    pixels, finite = slot.receive()
    if not finite:
        raise UnusableFrames("the decoder gave NaN")
    return pixels


class _HostSlot:
    """On the CPU there is nothing to wait for."""

    def __init__(self) -> None:
        self._sent: tuple[Pixels, bool] | None = None

    def send(self, picture: Tensor) -> None:
        self._sent = (to_bytes(picture)[None].cpu().numpy(), bool(_finite(picture)))

    def receive(self) -> tuple[Pixels, bool]:
        sent, self._sent = self._sent, None
        assert sent is not None
        return sent


class _PinnedSlot:
    """A pinned buffer, filled on ``stream``, used again and again.

    The verdict on the values travels with the frame: to ask for it would stop the GPU's queue.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        import torch

        self._stream = stream
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._pixels: Tensor | None = None
        self._is_finite = torch.empty((), dtype=torch.bool, pin_memory=True)

    def send(self, picture: Tensor) -> None:
        import torch

        levels, finite = to_bytes(picture)[None], _finite(picture)
        if self._pixels is None:
            self._pixels = torch.empty(levels.shape, dtype=torch.uint8, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(levels.device))
        with torch.cuda.stream(self._stream):
            self._pixels.copy_(levels, non_blocking=True)
            self._is_finite.copy_(finite, non_blocking=True)
            self._arrived.record(self._stream)
        for source in (levels, finite):  # not to be given to others before it is copied
            source.record_stream(self._stream)

    def receive(self) -> tuple[Pixels, bool]:
        self._arrived.synchronize()
        assert self._pixels is not None
        return self._pixels.numpy().copy(), bool(self._is_finite)


def _finite(picture: Tensor) -> Tensor:
    import torch

    return torch.isfinite(picture).all()
