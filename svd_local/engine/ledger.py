"""A ledger of the memory that operations take, and the entries of the fused engine's resblock.

The functions follow those of `svd_local.engine.fused` one by one, but keep a ledger instead of tensors:
what each makes, what it holds on to, what it lets go. Their sums agree with counts of living tensors;
what a kernel takes for itself is not seen by either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from svd_local.engine.blueprint import Layer
from svd_local.engine.fused.kernels.choice import NONE, Kernels

_SINGLE = 4
WHOLE = 2**31 - 1
"""Elements of a pass where nothing is cut, as `fused.passes.WHOLE`."""


@dataclass(slots=True)
class Ledger:
    """Elements alive now and at the most.

    Attributes:
        itemsize: bytes of an element.
        on_gpu: whether norms run as on a GPU, or as on the CPU.
        kernels: of our own, which make less than what they stand for.
        fp8: whether wide linear layers are in 8 bits.
    """

    itemsize: int
    on_gpu: bool
    kernels: Kernels = NONE
    fp8: bool = False
    live: float = 0
    peak: float = 0

    def make(self, elements: float) -> None:
        """A tensor that stays until it is dropped."""
        self.live += elements
        self.peak = max(self.peak, self.live)

    def drop(self, elements: float) -> None:
        """A tensor's end."""
        self.live -= elements

    def touch(self, elements: float) -> None:
        """Tensors that are gone again at once."""
        self.peak = max(self.peak, self.live + elements)

    @contextmanager
    def holding(self, elements: float) -> Iterator[None]:
        """A tensor that lives as long as the block."""
        self.make(elements)
        yield
        self.drop(elements)

    @property
    def wide(self) -> float:
        """An element of at least single precision, in elements."""
        return max(1.0, _SINGLE / self.itemsize)

    @property
    def byte(self) -> float:
        """A byte, in elements."""
        return 1 / self.itemsize

    @property
    def peak_bytes(self) -> int:
        return int(self.peak * self.itemsize)

    def norm(self, elements: float, channels: int) -> None:
        """A group norm's result; what goes in stays."""
        if self.kernels.has("group-norm", channels):
            self._statistics(elements)
        elif self.on_gpu:
            self.touch(2 * elements)
        elif self.wide > 1:
            self.touch((2 * self.wide + 1) * elements)
        self.make(elements)

    def scaled(self, elements: float, channels: int, *, copied: bool) -> None:
        """A piece normed with known statistics, after a copy of it where it is cut from a map."""
        copy = elements if copied else 0
        wide = 2 * self.wide + 1 if self.wide > 1 else 1
        if self.kernels.has("group-norm", channels):
            wide = 1
        self.touch(copy + wide * elements)
        self.make(elements)

    def moments(self, elements: float, channels: int, *, copied: bool) -> None:
        """A piece's statistics."""
        copy = elements if copied else 0
        if self.kernels.has("group-norm", channels):
            with self.holding(copy):
                self._statistics(elements)
            return
        self.touch(copy + (2 * self.wide if self.wide > 1 else 1) * elements)

    def _statistics(self, elements: float) -> None:
        """What the kernel keeps of each stretch of rows: two numbers in fp32 for 64 rows or more."""
        self.touch(2 * self.wide * elements / 64)


def pieces_of(count: int, size: float, limit: int) -> tuple[int, float]:
    """How many of ``count`` items of ``size`` elements a pass takes, and what share that is."""
    step = min(count, max(1, int(limit // size)))
    return step, step / count


def spatial(ledger: Ledger, pixels: float, channels: int, out: int) -> None:
    """The spatial residual: leaves its result."""
    before, after = channels * pixels, out * pixels
    ledger.norm(before, channels)
    ledger.make(after)
    ledger.drop(before)
    ledger.norm(after, out)
    ledger.drop(after)
    ledger.make(after)
    ledger.touch(after if channels != out else 0)
    ledger.drop(after)


def joined_spatial(
    ledger: Ledger,
    frames: int,
    places: int,
    pixels: float,
    layer: Layer,
    limit: int,
    *,
    host: bool,
) -> None:
    """The spatial residual of a map and a skip, in passes over frames: leaves its result.

    Args:
        ledger: takes the entries.
        frames: of a clip.
        places: positions of one frame.
        pixels: positions of all frames of the batch.
        layer: says the channels.
        limit: elements of a pass.
        host: whether the skip is fetched from host memory.
    """
    channels = layer.channels + layer.skip
    step, share = pieces_of(frames, places * channels, limit)
    piece = pixels * share
    joined = piece * channels if layer.skip else 0
    fetched = piece * layer.skip if layer.skip and host else 0
    if step == frames:
        ledger.touch(fetched + joined)
        with ledger.holding(joined):
            spatial(ledger, pixels, channels, layer.out)
        return
    ledger.make(pixels * layer.out)
    ledger.touch(fetched + joined)
    with ledger.holding(joined):
        spatial(ledger, piece, channels, layer.out)
        ledger.drop(piece * layer.out)


def temporal(
    ledger: Ledger, frames: int, places: int, pixels: float, channels: int, limit: int
) -> None:
    """The temporal residual, in passes over positions: leaves nothing."""
    whole = pixels * channels
    step, share = pieces_of(places, frames * channels, limit)
    if step == places:
        ledger.norm(whole, channels)
        ledger.make(whole)
        ledger.drop(whole)
        ledger.norm(whole, channels)
        ledger.drop(whole)
        ledger.touch(whole)
        ledger.drop(whole)
        return
    piece = whole * share
    ledger.moments(piece, channels, copied=True)
    with ledger.holding(whole):
        for _ in range(2):
            ledger.scaled(piece, channels, copied=True)
            ledger.touch(piece)
            ledger.drop(piece)
        # The second convolution of a piece begins while the first one's input is still there.
        with ledger.holding(piece):
            ledger.scaled(piece, channels, copied=True)
            ledger.drop(piece)
