"""Attention among the frames of each position, as the product of query, key and value left them.

A program takes a few neighbouring positions of one head. Everything of theirs is read once, in the
order it lies in memory, and kept in registers: the frames of a clip make no more than one tile of scores.
Heads of one position are neighbours in the grid, because they are in memory.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

DEFAULT = {"positions": 4, "warps": 4}
CONFIGS = (
    DEFAULT,
    {"positions": 1, "warps": 1},
    {"positions": 2, "warps": 2},
    {"positions": 2, "warps": 1},
    {"positions": 4, "warps": 2},
    {"positions": 8, "warps": 4},
)


@triton.jit(do_not_specialize=["frames", "positions"])
def _attention(
    qkv_ptr, out_ptr, frames, positions, heads, scale,
    POSITIONS: tl.constexpr, FRAMES: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    blocks = tl.cdiv(positions, POSITIONS)
    head, rest = pid % heads, pid // heads
    item, block = (rest // blocks).to(tl.int64), rest % blocks
    position = block * POSITIONS + tl.arange(0, POSITIONS)[:, None, None]
    frame = tl.arange(0, FRAMES)[None, :, None]
    channel = tl.arange(0, SIZE)[None, None, :]
    mask = (position < positions) & (frame < frames)
    row = (item * frames + frame) * positions + position
    width = heads * SIZE
    at = qkv_ptr + row * (3 * width) + head * SIZE + channel
    query = tl.load(at, mask=mask, other=0.0)
    key = tl.load(at + width, mask=mask, other=0.0)
    value = tl.load(at + 2 * width, mask=mask, other=0.0)
    scores = tl.dot(query, tl.permute(key, (0, 2, 1))) * scale
    scores = tl.where(tl.arange(0, FRAMES)[None, None, :] < frames, scores, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 2, keep_dims=True))
    total = tl.sum(weights, 2, keep_dims=True)
    # In two parts, because half precision would cost the weights digits that the result still has.
    rough = weights.to(value.dtype)
    fine = (weights - rough.to(tl.float32)).to(value.dtype)
    mixed = tl.dot(fine, value, tl.dot(rough, value)) / total
    out = out_ptr + row * width + head * SIZE + channel
    tl.store(out, mixed.to(out_ptr.dtype.element_ty), mask=mask)


def temporal_attention(qkv: Tensor, heads: int, config: Any) -> Tensor:
    """From (b, f, n, 3 * heads * size), contiguous, to (b, f, n, heads * size)."""
    items, frames, positions, columns = qkv.shape
    size = columns // (3 * heads)
    out = qkv.new_empty((items, frames, positions, heads * size))
    programs = items * heads * triton.cdiv(positions, config["positions"])
    _attention[(programs,)](
        qkv, out, frames, positions, heads, size**-0.5 * 1.4426950408889634,
        POSITIONS=config["positions"], FRAMES=max(16, triton.next_power_of_2(frames)), SIZE=size,
        num_warps=config["warps"],
    )  # fmt: skip
    return out
