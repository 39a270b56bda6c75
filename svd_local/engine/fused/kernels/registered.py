"""The kernels as torch operations, so that compilers and fake tensors know their shapes.

Called as ``torch.ops.svd_local.NAME`` after `register`; their Triton is loaded at the first real call.
What a kernel takes for itself meanwhile is at most a sixteenth of a small map, and a hundredth of a large
one (`group_norm`): fake tensors do not see it, the memory plan counts it.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any

from svd_local.engine.fused.kernels.choice import Kernel, active

if TYPE_CHECKING:
    from torch import Tensor

_ROOM = "svd_local.engine.fused.kernels"
_SCHEMAS = {
    "group_norm": "(Tensor x, Tensor weight, Tensor bias, Tensor? added, int groups, float eps, bool silu) -> Tensor",
    "channel_moments": "(Tensor x) -> (Tensor, Tensor)",
    "scaled_silu": "(Tensor x, Tensor scale, Tensor shift) -> Tensor",
    "geglu": "(Tensor x, int width) -> Tensor",
    "geglu_product": "(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
    "temporal_attention": "(Tensor qkv, int heads) -> Tensor",
    "add_layer_norm_": "(Tensor(a!) x, Tensor y, Tensor added, Tensor weight, Tensor bias, float eps) -> Tensor",
}


@functools.cache
def register() -> None:
    """Make the operations known to torch, once."""
    import torch
    from torch.utils.flop_counter import register_flop_formula

    for name, schema in _SCHEMAS.items():
        torch.library.define(f"svd_local::{name}", schema)
        torch.library.impl(f"svd_local::{name}", ("cuda", "cpu"), globals()[f"_{name}"])
        torch.library.register_fake(f"svd_local::{name}", globals()[f"_fake_{name}"])

    @register_flop_formula(torch.ops.svd_local.geglu_product)
    def _(x: Any, weight: Any, *_: Any, **__: Any) -> int:
        return 2 * int(x[0]) * int(x[1]) * int(weight[0])

    @register_flop_formula(torch.ops.svd_local.temporal_attention)
    def _(qkv: Any, *_: Any, **__: Any) -> int:
        items, frames, positions, columns = map(int, qkv)
        return 4 * items * positions * frames * frames * (columns // 3)


def _kernel(module: str, kernel: Kernel, width: int) -> tuple[Any, Any]:
    """A kernel's module and how it is to cut its work."""
    found: Any = import_module(f"{_ROOM}.{module}")
    return found, active().config(kernel, width) or found.DEFAULT


def _group_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    added: Tensor | None,
    groups: int,
    eps: float,
    silu: bool,
) -> Tensor:
    module, config = _kernel("group_norm", "group-norm", x.shape[-1])
    result: Tensor = module.normalise(x, weight, bias, added, groups, eps, config, silu=silu)
    return result


def _channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    module, config = _kernel("group_norm", "group-norm", x.shape[-1])
    result: tuple[Tensor, Tensor] = module.channel_moments(x, config)
    return result


def _scaled_silu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    module, config = _kernel("group_norm", "group-norm", x.shape[-1])
    result: Tensor = module.scaled(x, scale, shift, config, silu=True)
    return result


def _geglu(x: Tensor, width: int) -> Tensor:
    module, config = _kernel("geglu", "geglu", width)
    result: Tensor = module.geglu(x, config)
    return result


def _geglu_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    module, config = _kernel("geglu_product", "geglu-product", x.shape[-1])
    result: Tensor = module.geglu_product(x, weight, bias, config)
    return result


def _temporal_attention(qkv: Tensor, heads: int) -> Tensor:
    module, config = _kernel("temporal_attention", "temporal-attention", qkv.shape[-1] // 3)
    result: Tensor = module.temporal_attention(qkv, heads, config)
    return result


def _add_layer_norm_(
    x: Tensor, y: Tensor, added: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    module, config = _kernel("residual", "add-layer-norm", x.shape[-1])
    result: Tensor = module.add_layer_norm_(x, y, added, weight, bias, eps, config)
    return result


def _fake_group_norm(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


def _fake_channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    import torch

    size = (x.shape[0], x.shape[2])
    return x.new_empty(size, dtype=torch.float32), x.new_empty(size, dtype=torch.float32)


def _fake_scaled_silu(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


def _fake_geglu(x: Tensor, width: int) -> Tensor:
    return x.new_empty((x.shape[0], x.shape[1] // 2))


def _fake_geglu_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[0] // 2))


def _fake_temporal_attention(qkv: Tensor, heads: int) -> Tensor:
    return qkv.new_empty((*qkv.shape[:3], qkv.shape[3] // 3))


def _fake_add_layer_norm_(x: Tensor, y: Tensor, *_: Any) -> Tensor:
    return y.new_empty(y.shape)
