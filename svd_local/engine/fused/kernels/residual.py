"""What is added to a map, and the layer norm of the sum, in one pass over memory."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

DEFAULT = {"rows": 4, "warps": 4}
CONFIGS = (
    DEFAULT,
    {"rows": 1, "warps": 2},
    {"rows": 2, "warps": 4},
    {"rows": 4, "warps": 8},
    {"rows": 8, "warps": 8},
)


# The steps are specialised: only where the compiler knows them for multiples of 16 does it move 16 bytes at once.
@triton.jit(do_not_specialize=["lines", "tiles"])
def _add_norm(
    x_ptr, y_ptr, added_ptr, weight_ptr, bias_ptr, out_ptr,
    lines, tiles, channels, x_step, added_step, eps,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    item = (pid // tiles).to(tl.int64)
    row = ((pid % tiles) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    inside = channel < channels
    mask = (row[:, None] < lines) & inside[None, :]
    x_at = x_ptr + item * x_step + row[:, None] * channels + channel[None, :]
    at = (item * lines + row[:, None]) * channels + channel[None, :]
    x = tl.load(x_at, mask=mask, other=0.0).to(tl.float32)
    y = tl.load(y_ptr + at, mask=mask, other=0.0).to(tl.float32)
    added = tl.load(added_ptr + item * added_step + channel, mask=inside, other=0.0)
    x += y + added.to(tl.float32)[None, :]
    kept = x.to(x_ptr.dtype.element_ty)
    tl.store(x_at, kept, mask=mask)
    # The norm is of what was kept, as whoever reads it later will find it.
    x = kept.to(tl.float32)
    mean = tl.sum(x, 1) / channels
    away = tl.where(inside[None, :], x - mean[:, None], 0.0)
    variance = tl.sum(away * away, 1) / channels
    weight = tl.load(weight_ptr + channel, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=inside, other=0.0).to(tl.float32)
    normed = away * (1 / tl.sqrt(variance + eps))[:, None] * weight[None, :] + bias[None, :]
    tl.store(out_ptr + at, normed.to(out_ptr.dtype.element_ty), mask=mask)


def add_layer_norm_(
    x: Tensor, y: Tensor, added: Tensor, weight: Tensor, bias: Tensor, eps: float, config: Any
) -> Tensor:
    """Add ``y`` (n, r, c) and ``added`` (n or 1, c) to ``x`` (n, r, c) in place; the layer norm of that.

    The rows of an item of ``x`` lie together; its items may lie apart. ``y`` is contiguous.
    """
    items, lines, channels = x.shape
    out = torch.empty_like(y)
    tiles = triton.cdiv(lines, config["rows"])
    _add_norm[(items * tiles,)](
        x, y, added, weight, bias, out, lines, tiles, channels, x.stride(0),
        0 if added.shape[0] == 1 else channels, eps,
        ROWS=config["rows"], BLOCK=triton.next_power_of_2(channels), num_warps=config["warps"],
    )  # fmt: skip
    return out
