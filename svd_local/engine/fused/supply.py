"""Where the UNet's weights come from: at hand on the device, or brought there as the work reaches them.

A run asks for each part when it is due and is done with it when it asks for another (`parts_in_order`
in `weights`). Streamed weights are at home in host memory. Parts that follow one another are put together
to loads; two stretches of device memory take a load each: while one is computed with, the next load is
copied into the other, on CUDA from pinned memory on a stream of its own. So the device holds two loads
instead of the network, and the numbers are those of the weights at home, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from svd_local.engine.fused.weights import map_tensors, tensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")

_ALIGNED = 256
"""Bytes; where torch's own tensors begin, or kernels for aligned memory would not be taken."""


class Supply(Protocol):
    """Hands out parts of the network, trees of the classes in `weights`."""

    def bring(self, part: T) -> T:
        """``part`` on the device. What was brought before must not be used any more."""


class AtHand:
    """The weights lie on the device already."""

    def bring(self, part: T) -> T:
        """``part`` itself."""
        return part


AT_HAND = AtHand()


@dataclass(frozen=True, slots=True)
class _Load:
    """Parts that are brought together, and the bytes they take."""

    parts: tuple[Any, ...]
    size: int


class Streamed:
    """Parts at home in host memory, two loads of them on the device.

    Asked for in the order given, again and again, every load is copied once each time round, ahead of
    its use. Any other order gives the same weights, with waiting.

    Args:
        parts: of the network, in the order of their use.
        device: where they are used.
    """

    def __init__(self, parts: Iterable[Any], device: torch.device | str) -> None:
        import torch

        self._device = torch.device(device)
        self._loads = _loads(list(parts))
        self._load_of = {
            id(part): index for index, load in enumerate(self._loads) for part in load.parts
        }
        largest = max(load.size for load in self._loads)
        self._places = [_Place(largest, self._device) for _ in range(2)]
        self._moved = 0

    @property
    def moved_bytes(self) -> int:
        """Bytes copied to the device so far."""
        return self._moved

    @property
    def held_bytes(self) -> int:
        """Bytes of device memory taken, for as long as this object lives."""
        return sum(place.size for place in self._places)

    def bring(self, part: T) -> T:
        """``part`` on the device, and the next load on its way."""
        wanted = self._load_of[id(part)]
        here, other = self._places
        if here.load != wanted:
            here.leave()
            self._places = [other, here]
            if other.load != wanted:
                self._fetch(other, wanted)
            other.arrive()
            self._fetch(here, (wanted + 1) % len(self._loads))
        return self._places[0].parts[id(part)]  # type: ignore[no-any-return]

    def _fetch(self, place: _Place, index: int) -> None:
        load = self._loads[index]
        place.fetch(load, index)
        self._moved += sum(tensor.nbytes for tensor in tensors(load.parts))


class _Place:
    """Device memory for one load. On CUDA its copies have a stream of their own."""

    def __init__(self, size: int, device: torch.device) -> None:
        import torch

        self.size = size
        self.load: int | None = None
        self.parts: dict[int, Any] = {}
        self._memory = torch.empty(size, dtype=torch.uint8, device=device)
        self._stream: Any = None
        self._device = device
        if device.type == "cuda" and torch.cuda.is_available():
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(device))
            # Whoever frees the memory waits for a copy that is still under way.
            self._memory.record_stream(self._stream)

    def fetch(self, load: _Load, index: int) -> None:
        """Begin to copy a load here, over what was there."""
        import torch

        self.load = index
        at = 0

        def copied(tensor: Tensor) -> Tensor:
            nonlocal at
            stretch = self._memory[at : at + _extent(tensor)].view(tensor.dtype)
            at += _aligned(_extent(tensor))
            there = stretch.as_strided(tensor.shape, tensor.stride())
            return there.copy_(tensor, non_blocking=True)

        with torch.cuda.stream(self._stream):  # of None: nothing changes
            self.parts = {id(part): map_tensors(part, copied) for part in load.parts}

    def arrive(self) -> None:
        """What is computed from here on waits for the load."""
        if self._stream is not None:
            import torch

            torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def leave(self) -> None:
        """What is copied here from now on waits for all that was computed."""
        if self._stream is not None:
            import torch

            self._stream.wait_stream(torch.cuda.current_stream(self._device))


def _loads(parts: list[Any]) -> list[_Load]:
    """Parts put together as long as they are no larger than the largest one alone."""
    sizes = [part_bytes(tensors(part)) for part in parts]
    largest = max(sizes)
    loads: list[_Load] = []
    together: list[Any] = []
    total = 0
    for part, size in zip(parts, sizes, strict=True):
        if total + size > largest:
            loads.append(_Load(tuple(together), total))
            together, total = [], 0
        together.append(part)
        total += size
    return [*loads, _Load(tuple(together), total)]


def part_bytes(weights: Iterator[Tensor]) -> int:
    """Bytes that tensors take when each begins at an aligned address."""
    return sum(_aligned(_extent(tensor)) for tensor in weights)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _extent(tensor: Tensor) -> int:
    """Bytes from its first element to its last."""
    if 0 in tensor.shape:
        return 0
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.itemsize
