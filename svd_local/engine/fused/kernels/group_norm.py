"""Group norm over rows of channels, with SiLU, and its two halves by themselves.

Three launches. *Moments*: each program reads one stretch of rows and one block of channels, once, and
writes each channel's mean and sum of squared deviations. Sums are taken around the mean of the stretch's
first rows, so that nothing cancels (Chan, Golub and LeVeque 1983, "shifted data"). *Merge*: a program for
each item and group puts them together into a scale and a shift for each channel, in which a bias that
the rows have yet to get costs nothing. *Apply*: reads the rows again, last ones first, because the last
ones are what the GPU's cache still has of them, and writes the result. So memory is read twice and
written once, where torch's own norm first copies everything into another layout and back.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

DEFAULT = {"rows": 32, "channels": 64, "warps": 4}
CONFIGS = (
    DEFAULT,
    {"rows": 64, "channels": 64, "warps": 4},
    {"rows": 64, "channels": 64, "warps": 8},
    {"rows": 16, "channels": 128, "warps": 4},
    {"rows": 32, "channels": 128, "warps": 8},
)
_LONGEST = 512
"""Rows of a stretch at the most: its sums stay short, and there are enough stretches."""
_PROGRAMS = 8
"""Programs for each multiprocessor at the least, as long as there are rows to share."""


@triton.jit(do_not_specialize=["rows", "stretch", "stretches"])
def _moments(
    x_ptr, mean_ptr, square_ptr, rows, stretch, stretches, channels,
    BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(channels, BLOCK)
    piece = pid // blocks
    item, index = piece // stretches, piece % stretches
    channel = (pid % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < channels
    first = index * stretch
    count = tl.minimum(stretch, rows - first).to(tl.int32)
    line = tl.arange(0, BLOCK_ROWS)
    at = x_ptr + (item * rows + first) * channels + line[:, None] * channels + channel[None, :]

    mask = (line[:, None] < count) & inside[None, :]
    x = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    origin = tl.sum(x, 0) / tl.minimum(count, BLOCK_ROWS)
    away = tl.where(mask, x - origin[None, :], 0.0)
    total = away
    squares = away * away
    for start in range(BLOCK_ROWS, count, BLOCK_ROWS):
        at += BLOCK_ROWS * channels
        mask = (line[:, None] < count - start) & inside[None, :]
        x = tl.load(at, mask=mask, other=0.0).to(tl.float32)
        away = tl.where(mask, x - origin[None, :], 0.0)
        total += away
        squares += away * away
    offset = tl.sum(total, 0) / count
    out = piece * channels + channel
    tl.store(mean_ptr + out, origin + offset, mask=inside)
    square = tl.sum(squares, 0) - count * offset * offset
    tl.store(square_ptr + out, tl.maximum(square, 0.0), mask=inside)


@triton.jit
def _pooled(
    mean_ptr,
    square_ptr,
    at,
    added,
    inside,
    rows,
    stretch,
    stretches,
    channels,
    size,
    LINES: tl.constexpr,
):
    """Mean and mean squared deviation over all stretches and the channels at ``at``."""
    line = tl.arange(0, LINES)
    weighted = tl.zeros_like(added)
    for start in range(0, stretches, LINES):
        index = start + line
        count = tl.maximum(tl.minimum(stretch, rows - index * stretch), 0)
        mask = (index[:, None] < stretches) & inside[None, :]
        mean = tl.load(mean_ptr + index[:, None] * channels + at[None, :], mask=mask, other=0.0)
        weighted += tl.sum(tl.where(mask, (mean + added[None, :]) * count[:, None], 0.0), 0)
    numbers = rows.to(tl.float32) * size
    middle = tl.sum(tl.where(inside, weighted, 0.0), 0) / numbers
    spread = tl.zeros_like(added)
    for start in range(0, stretches, LINES):
        index = start + line
        count = tl.maximum(tl.minimum(stretch, rows - index * stretch), 0)
        mask = (index[:, None] < stretches) & inside[None, :]
        place = index[:, None] * channels + at[None, :]
        mean = tl.load(mean_ptr + place, mask=mask, other=0.0)
        square = tl.load(square_ptr + place, mask=mask, other=0.0)
        gap = mean + added[None, :] - middle
        spread += tl.sum(tl.where(mask, square + gap * gap * count[:, None], 0.0), 0)
    return middle, tl.sum(tl.where(inside, spread, 0.0), 0) / numbers


@triton.jit(do_not_specialize=["rows", "stretch", "stretches", "size", "share"])
def _merge(
    mean_ptr, square_ptr, weight_ptr, bias_ptr, added_ptr, scale_ptr, shift_ptr,
    rows, stretch, stretches, channels, size, share, eps,
    HAS_ADDED: tl.constexpr, BLOCK: tl.constexpr, LINES: tl.constexpr,
):  # fmt: skip
    item, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    within = tl.arange(0, BLOCK)
    inside = within < size
    channel = group * size + within
    added = tl.zeros([BLOCK], tl.float32)
    if HAS_ADDED:
        added = tl.load(added_ptr + item // share * channels + channel, mask=inside, other=0.0)
        added = added.to(tl.float32)
    at = item * stretches * channels + channel
    mean, variance = _pooled(
        mean_ptr, square_ptr, at, added, inside, rows, stretch, stretches, channels, size, LINES
    )
    weight = tl.load(weight_ptr + channel, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=inside, other=0.0).to(tl.float32)
    scale = weight / tl.sqrt(variance + eps)
    out = item * channels + channel
    tl.store(scale_ptr + out, scale, mask=inside)
    tl.store(shift_ptr + out, (added - mean) * scale + bias, mask=inside)


@triton.jit(do_not_specialize=["rows", "stretch", "stretches"])
def _merge_channels(
    mean_ptr, square_ptr, out_mean_ptr, out_variance_ptr, rows, stretch, stretches, channels,
    BLOCK: tl.constexpr, LINES: tl.constexpr,
):  # fmt: skip
    """The moments of each channel by itself."""
    item = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < channels
    line = tl.arange(0, LINES)
    at = item * stretches * channels + channel
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, stretches, LINES):
        index = start + line
        count = tl.maximum(tl.minimum(stretch, rows - index * stretch), 0)
        mask = (index[:, None] < stretches) & inside[None, :]
        mean = tl.load(mean_ptr + index[:, None] * channels + at[None, :], mask=mask, other=0.0)
        total += tl.sum(mean * count[:, None], 0)
    middle = total / rows
    spread = tl.zeros([BLOCK], tl.float32)
    for start in range(0, stretches, LINES):
        index = start + line
        count = tl.maximum(tl.minimum(stretch, rows - index * stretch), 0)
        mask = (index[:, None] < stretches) & inside[None, :]
        place = index[:, None] * channels + at[None, :]
        mean = tl.load(mean_ptr + place, mask=mask, other=0.0)
        square = tl.load(square_ptr + place, mask=mask, other=0.0)
        gap = mean - middle[None, :]
        spread += tl.sum(tl.where(mask, square + gap * gap * count[:, None], 0.0), 0)
    tl.store(out_mean_ptr + item * channels + channel, middle, mask=inside)
    tl.store(out_variance_ptr + item * channels + channel, spread / rows, mask=inside)


@triton.jit(do_not_specialize=["rows", "tiles"])
def _apply(
    x_ptr, scale_ptr, shift_ptr, out_ptr, rows, tiles, channels,
    SILU: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = (tl.num_programs(0) - 1 - tl.program_id(0)).to(tl.int64)
    blocks = tl.cdiv(channels, BLOCK)
    tile = pid // blocks
    item = tile // tiles
    row = (tile % tiles) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    channel = (pid % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < channels
    scale = tl.load(scale_ptr + item * channels + channel, mask=inside, other=0.0)
    shift = tl.load(shift_ptr + item * channels + channel, mask=inside, other=0.0)
    at = (item * rows + row[:, None]) * channels + channel[None, :]
    mask = (row[:, None] < rows) & inside[None, :]
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    y = x * scale[None, :] + shift[None, :]
    if SILU:
        y = y / (1 + tl.exp(tl.minimum(-y, 80.0)))
    tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask=mask)


class _Pieces:
    """Moments of every channel in every stretch of rows."""

    def __init__(self, x: Tensor, config: Any) -> None:
        items, self.rows, self.channels = x.shape
        block = config["channels"]
        blocks = triton.cdiv(self.channels, block)
        self.stretch = _stretch(items * blocks, self.rows, config["rows"], x.device)
        self.stretches = triton.cdiv(self.rows, self.stretch)
        sizes = (items, self.stretches, self.channels)
        self.mean = x.new_empty(sizes, dtype=torch.float32)
        self.square = x.new_empty(sizes, dtype=torch.float32)
        _moments[(items * self.stretches * blocks,)](
            x, self.mean, self.square, self.rows, self.stretch, self.stretches, self.channels,
            BLOCK_ROWS=config["rows"], BLOCK=block, num_warps=config["warps"],
        )  # fmt: skip


def _stretch(programs: int, rows: int, least: int, device: torch.device) -> int:
    """Rows of a stretch: short enough that every multiprocessor has its share of them."""
    stretch = _LONGEST
    while stretch > 2 * least and programs * triton.cdiv(rows, stretch) < _enough(device):
        stretch //= 2
    return stretch


def _enough(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return _PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count


def normalise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    added: Tensor | None,
    groups: int,
    eps: float,
    config: Any,
    *,
    silu: bool,
) -> Tensor:
    """The norm of (n, r, c), contiguous, plus ``added`` where there is any: a new tensor.

    Each of its rows (k, c) is for n/k items.
    """
    items, _, channels = x.shape
    size = channels // groups
    pieces = _Pieces(x, config)
    scale, shift = (x.new_empty((items, channels), dtype=torch.float32) for _ in range(2))
    block = triton.next_power_of_2(size)
    _merge[(items, groups)](
        pieces.mean, pieces.square, weight, bias, weight if added is None else added, scale, shift,
        pieces.rows, pieces.stretch, pieces.stretches, channels, size,
        1 if added is None else items // added.shape[0], eps,
        HAS_ADDED=added is not None, BLOCK=block, LINES=max(4, 1024 // block), num_warps=4,
    )  # fmt: skip
    return scaled(x, scale, shift, config, silu=silu)


def channel_moments(x: Tensor, config: Any) -> tuple[Tensor, Tensor]:
    """Mean and mean squared deviation of each channel of (n, r, c), in fp32: (n, c) each."""
    items, _, channels = x.shape
    pieces = _Pieces(x, config)
    mean, variance = (x.new_empty((items, channels), dtype=torch.float32) for _ in range(2))
    _merge_channels[(items, triton.cdiv(channels, 32))](
        pieces.mean, pieces.square, mean, variance,
        pieces.rows, pieces.stretch, pieces.stretches, channels,
        BLOCK=32, LINES=32, num_warps=4,
    )  # fmt: skip
    return mean, variance


def scaled(x: Tensor, scale: Tensor, shift: Tensor, config: Any, *, silu: bool) -> Tensor:
    """``x * scale + shift`` of (n, r, c) by (n, c) in fp32, contiguous, with SiLU or not: a new tensor."""
    items, rows, channels = x.shape
    out = torch.empty_like(x)
    tiles = triton.cdiv(rows, config["rows"])
    programs = items * tiles * triton.cdiv(channels, config["channels"])
    _apply[(programs,)](
        x, scale, shift, out, rows, tiles, channels,
        SILU=silu, BLOCK_ROWS=config["rows"], BLOCK=config["channels"], num_warps=config["warps"],
    )  # fmt: skip
    return out
