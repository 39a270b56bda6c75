"""What the fused decoder takes at its peak, worked out from shapes alone; see `ledger`."""

from __future__ import annotations

from svd_local.engine.blueprint import Layer, VaeShape
from svd_local.engine.fused.kernels.choice import NONE, Kernels
from svd_local.engine.fused.streaming import pass_positions
from svd_local.engine.ledger import WHOLE, Ledger, joined_spatial, spatial, temporal
from svd_local.engine.values import Sampling


def decode_bytes(
    shape: VaeShape,
    sampling: Sampling,
    *,
    itemsize: int,
    on_gpu: bool,
    streaming: bool,
    host: bool,
    kernels: Kernels = NONE,
) -> int:
    """Bytes that the decoder makes at its peak, beside its weights.

    Args:
        shape: of the VAE.
        sampling: the clip's parameters.
        itemsize: bytes of an element.
        on_gpu: see `Ledger`.
        streaming: whether it streams, or decodes all frames at once.
        host: whether a streaming decode keeps its maps in host memory.
        kernels: of our own that run.
    """
    ledger = Ledger(itemsize, on_gpu, kernels)
    frames, places = sampling.frames, sampling.width * sampling.height // 64
    before = frames * places * shape.widths[-1]
    if not host:
        ledger.make(before)
    for what, channels, out in shape.decoder():
        if what == "enlarge":
            places *= 4
        if streaming:
            _streamed_layer(ledger, what, frames, places, channels, out, before, host=host)
        else:
            _decoder_layer(ledger, what, frames, places, channels, out, before)
        before = frames * places * out
    ledger.make(before / frames if host else 0)
    ledger.norm(before / frames, shape.widths[0])
    return ledger.peak_bytes


def _prepare(ledger: Ledger, what: str, pixels: float, channels: int) -> float:
    """What comes before a resblock; what it leaves beside its input."""
    x = pixels * channels
    if what == "attend":
        ledger.norm(x, channels)
        ledger.touch(3 * x + 2 * x)
        ledger.drop(x)
    if what != "enlarge":
        return 0
    ledger.make(x)
    ledger.touch(2 * x / 4)
    return x


def _decoder_layer(
    ledger: Ledger,
    what: str,
    frames: int,
    places: int,
    channels: int,
    out: int,
    before: float,
) -> None:
    """A layer over all frames at once."""
    pixels = frames * places
    prepared = _prepare(ledger, what, pixels, channels)
    layer = Layer(channels, 0, out, 0, 0, 0)
    joined_spatial(ledger, frames, places, pixels, layer, WHOLE, host=False)
    ledger.drop(prepared + before)
    temporal(ledger, frames, places, pixels, out, WHOLE)


def _streamed_layer(
    ledger: Ledger,
    what: str,
    frames: int,
    places: int,
    channels: int,
    out: int,
    before: float,
    *,
    host: bool,
) -> None:
    """A layer frame by frame, then position by position; only the map between layers is whole."""
    taken, made = before / frames, places * out
    for _ in range(frames):
        ledger.make(taken if host else 0)
        prepared = _prepare(ledger, what, places, channels)
        ledger.drop(taken if prepared else 0)
        spatial(ledger, places, channels, out)
        ledger.drop(prepared or taken)
        ledger.moments(made, out, copied=False)
        ledger.drop(made if host else 0)
    piece = pass_positions(places, frames, host=host) * frames * out
    _streamed_temporal(ledger, piece, out, host=host)


def _streamed_temporal(ledger: Ledger, piece: float, channels: int, *, host: bool) -> None:
    """The temporal residual of a map that is kept by frames, in passes of ``piece`` elements."""
    gathered = piece if host else 0
    # A pass begins while the tensors of the one before are still there.
    with ledger.holding(piece):
        ledger.touch(piece + gathered)
        with ledger.holding(piece):
            ledger.scaled(piece, channels, copied=False)
            ledger.touch(piece)
            ledger.drop(piece)
    with ledger.holding(2 * piece):
        ledger.touch(piece + gathered)
        with ledger.holding(piece):
            ledger.scaled(piece, channels, copied=False)
            ledger.drop(piece)
