"""Kernels without a GPU: by Triton's interpreter where Triton is, and stood in for by plain torch."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

if find_spec("triton") and "triton" not in sys.modules:
    # Triton asks once, when it is loaded; on a GPU the kernels run in truth.
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def kernel_device() -> str:
    """Where kernels can be run; skips where they cannot."""
    import torch

    if not find_spec("triton"):
        pytest.skip("Triton is not installed")
    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton was loaded before it could be told to interpret")
    return "cpu"


@pytest.fixture
def stood_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every kernel is done by plain torch, in its own order of arguments; names those that were called."""
    import torch
    from torch.nn import functional

    from svd_local.engine.fused.kernels import registered

    called: list[str] = []

    def normalise(x: Any, w: Any, b: Any, added: Any, groups: int, eps: float, _: Any, *, silu: bool) -> Any:  # fmt: skip
        called.append("normalise")
        wide = x.float()
        if added is not None:
            called.append("added")
            wide = wide + added.float().repeat_interleave(len(x) // len(added), 0)[:, None]
        y = functional.group_norm(wide.transpose(1, 2), groups, w.float(), b.float(), eps)
        return (functional.silu(y) if silu else y).transpose(1, 2).to(x.dtype).contiguous()

    def channel_moments(x: Any, _: Any) -> Any:
        called.append("channel_moments")
        return x.float().mean(1), x.float().var(1, correction=0)

    def scaled(x: Any, scale: Any, shift: Any, _: Any, *, silu: bool) -> Any:
        called.append("scaled")
        y = x.float() * scale[:, None] + shift[:, None]
        return (functional.silu(y) if silu else y).to(x.dtype)

    def geglu(x: Any, _: Any) -> Any:
        called.append("geglu")
        value, gate = x.float().chunk(2, -1)
        return (value * functional.gelu(gate)).to(x.dtype)

    def geglu_product(x: Any, weight: Any, bias: Any, _: Any) -> Any:
        called.append("geglu_product")
        value, gate = functional.linear(x.float(), weight.float(), bias.float()).chunk(2, -1)
        return (value * functional.gelu(gate)).to(x.dtype)

    def temporal_attention(qkv: Any, heads: int, _: Any) -> Any:
        called.append("temporal_attention")
        b, f, n, _c = qkv.shape
        q, k, v = qkv.float().view(b, f, n, 3, heads, -1).permute(3, 0, 2, 4, 1, 5)
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)
        return (weights @ v).permute(0, 3, 1, 2, 4).reshape(b, f, n, -1).to(qkv.dtype)

    def add_layer_norm_(x: Any, y: Any, added: Any, w: Any, b: Any, eps: float, _: Any) -> Any:
        called.append("add_layer_norm_")
        x.copy_(x.float() + y.float() + added.float()[:, None])
        return functional.layer_norm(x.float(), w.shape, w.float(), b.float(), eps).to(x.dtype)

    functions = (normalise, channel_moments, scaled, geglu, geglu_product, temporal_attention, add_layer_norm_)  # fmt: skip
    module = SimpleNamespace(DEFAULT={}, **{one.__name__: one for one in functions})
    monkeypatch.setattr(registered, "_kernel", lambda *_: (module, {}))
    return called
