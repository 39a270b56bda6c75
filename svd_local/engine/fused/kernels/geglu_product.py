"""A linear layer for value and gate with GEGLU at its end: the product itself never meets memory.

Row ``j`` of the weight makes a value, row ``inner + j`` its gate. A tile of columns takes both kinds by
turns, value, gate, value, gate: so each thread ends with pairs in its own registers, and multiplies them
there. The rows are picked as they are loaded, the weight in memory stays as it was folded. Tiles are
dealt out in groups of rows, so that those which run at once share what they read in the cache.

``persistent`` starts one program for each multiprocessor, which goes from tile to tile and fetches the
next one's operands while it still computes this one's end.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from svd_local.engine.fused.kernels.geglu import gated

DEFAULT = {"m": 128, "n": 128, "k": 64, "stages": 3, "warps": 4, "group": 8, "persistent": 0}
CONFIGS = (
    DEFAULT,
    {**DEFAULT, "stages": 4},
    {**DEFAULT, "n": 256, "warps": 8},
    {**DEFAULT, "n": 256, "warps": 8, "stages": 4},
    {**DEFAULT, "m": 64, "n": 256, "warps": 4, "stages": 4},
    {**DEFAULT, "k": 32, "stages": 5},
    {**DEFAULT, "n": 256, "warps": 8, "persistent": 1},
    {**DEFAULT, "persistent": 1, "warps": 8},
)


@triton.jit
def _place(tile, m_tiles, n_tiles, GROUP: tl.constexpr):
    """Row and column of a tile: down a group of rows first, then the next column."""
    width = GROUP * n_tiles
    first = (tile // width) * GROUP
    height = tl.minimum(m_tiles - first, GROUP)
    return first + (tile % width) % height, (tile % width) // height


@triton.jit
def _tile(
    x_ptr, w_ptr, b_ptr, out_ptr, rows, inner, depth, m_index, n_index,
    HAS_BIAS: tl.constexpr, WHOLE_K: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    row = m_index.to(tl.int64) * M + tl.arange(0, M)
    pair = n_index * N + tl.arange(0, N)
    column = (pair % 2) * inner + pair // 2
    there = row < rows
    wanted = pair < 2 * inner
    along = tl.arange(0, K)
    # Rows beyond the end read the last one instead: nothing they make is kept.
    x_at = x_ptr + tl.minimum(row, rows - 1)[:, None] * depth + along[None, :]
    column = tl.where(wanted, column, 0)
    w_at = w_ptr + column.to(tl.int64)[None, :] * depth + along[:, None]
    total = tl.zeros([M, N], tl.float32)
    for start in range(0, depth, K):
        if WHOLE_K:
            x, w = tl.load(x_at), tl.load(w_at)
        else:
            left = depth - start
            x = tl.load(x_at, mask=along[None, :] < left, other=0.0)
            w = tl.load(w_at, mask=along[:, None] < left, other=0.0)
        total = tl.dot(x, w, total)
        x_at += K
        w_at += K
    if HAS_BIAS:
        total += tl.load(b_ptr + column).to(tl.float32)[None, :]
    value, gate = tl.split(tl.reshape(total, [M, N // 2, 2]))
    made = gated(value, gate).to(out_ptr.dtype.element_ty)
    out = n_index * (N // 2) + tl.arange(0, N // 2)
    mask = there[:, None] & (out < inner)[None, :]
    tl.store(out_ptr + row[:, None] * inner + out[None, :], made, mask=mask)


@triton.jit(do_not_specialize=["rows"])
def _once(
    x_ptr, w_ptr, b_ptr, out_ptr, rows, inner, depth,
    HAS_BIAS: tl.constexpr, WHOLE_K: tl.constexpr, GROUP: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    m_index, n_index = _place(tl.program_id(0), tl.cdiv(rows, M), tl.cdiv(2 * inner, N), GROUP)
    _tile(
        x_ptr, w_ptr, b_ptr, out_ptr, rows, inner, depth, m_index, n_index,
        HAS_BIAS, WHOLE_K, M, N, K,
    )  # fmt: skip


@triton.jit(do_not_specialize=["rows"])
def _by_turns(
    x_ptr, w_ptr, b_ptr, out_ptr, rows, inner, depth,
    HAS_BIAS: tl.constexpr, WHOLE_K: tl.constexpr, GROUP: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    m_tiles, n_tiles = tl.cdiv(rows, M), tl.cdiv(2 * inner, N)
    for tile in tl.range(tl.program_id(0), m_tiles * n_tiles, tl.num_programs(0), flatten=True):
        m_index, n_index = _place(tile, m_tiles, n_tiles, GROUP)
        _tile(
            x_ptr, w_ptr, b_ptr, out_ptr, rows, inner, depth, m_index, n_index,
            HAS_BIAS, WHOLE_K, M, N, K,
        )  # fmt: skip


def geglu_product(x: Tensor, weight: Tensor, bias: Tensor | None, config: Any) -> Tensor:
    """(m, k) contiguous times the transposed (2 * inner, k), plus (2 * inner,), to (m, inner)."""
    rows, depth = x.shape
    inner = weight.shape[0] // 2
    out = x.new_empty((rows, inner))
    tiles = triton.cdiv(rows, config["m"]) * triton.cdiv(2 * inner, config["n"])
    kernel, programs = _once, tiles
    if config["persistent"]:
        kernel, programs = _by_turns, min(tiles, _multiprocessors(x.device))
    kernel[(programs,)](
        x, weight, weight if bias is None else bias, out, rows, inner, depth,
        HAS_BIAS=bias is not None, WHOLE_K=depth % config["k"] == 0, GROUP=config["group"],
        M=config["m"], N=config["n"], K=config["k"],
        num_warps=config["warps"], num_stages=config["stages"],
    )  # fmt: skip
    return out


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count
