"""Linear layers in 8 bits: approximate, and named so.

A weight is rounded once to float8_e4m3fn, four bits of significand, with one scale for the matrix that
brings its largest number to the format's largest. An input is rounded before its product, likewise with
one scale. Rounding to a floating type errs relative to each number, so that scales by row or channel would
hardly err less, and the products for them are slower.

Where the input comes from a layer norm, its scale is made from the norm's weights: a normed row of n numbers
has none beyond the root of n. Elsewhere the largest number is looked for. Nothing overflows either way, and
what is not finite stays so.

On a GPU of compute capability 8.9 the product is `torch._scaled_mm`, summed nearly as in single precision.
Elsewhere the rounded numbers are multiplied in single precision: the same arithmetic without its gain.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from svd_local.engine.fused.weights import (
    Affine,
    Attention,
    FeedForward,
    Fp8Affine,
    SpatialBlock,
    Stage,
    TemporalBlock,
    Transformer,
    UNetWeights,
)
from svd_local.errors import InvalidRequest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from svd_local.engine.fused.weights import Norm

LEAST_INPUTS = 640
"""Of a layer that is worth it: below, rounding the input takes as long as the product saves."""
LEAST_CAPABILITY = (8, 9)
"""Compute capability of the first GPUs that multiply such numbers."""
_LARGEST = 448.0
"""Of float8_e4m3fn."""
_MULTIPLE = 16
"""What `torch._scaled_mm` wants sides to be of."""


def product_(x: Tensor, layer: Fp8Affine, bias: Tensor | None) -> Tensor:
    """The last axis times the layer's weight^T, plus ``bias``. ``x`` is scaled in place."""
    import torch

    inverse = _inverse_for(x) if layer.inverse is None else layer.inverse
    rows = x.mul_(inverse).to(torch.float8_e4m3fn).flatten(0, -2)
    scale = inverse.float().reciprocal()
    if rows.device.type == "cuda":
        # In single precision cuBLAS takes no bias.
        early = None if x.dtype == torch.float32 else bias
        out = torch._scaled_mm(
            *(rows, layer.weight.t(), scale, layer.scale),
            bias=early,
            out_dtype=x.dtype,
            use_fast_accum=True,
        )
        out = out if bias is early or bias is None else out.add_(bias)
    else:
        out = _emulated(rows, layer, scale, x.dtype)
        out = out if bias is None else out.add_(bias)
    return out.view(*x.shape[:-1], out.shape[-1])


def _emulated(rows: Tensor, layer: Fp8Affine, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The product as the GPU has it: exact in single precision, scaled, rounded once."""
    import torch

    wide = torch.float64 if dtype == torch.float64 else torch.float32
    out = rows.to(wide) @ layer.weight.to(wide).t()
    return out.mul_(scale * layer.scale).to(dtype)


def _inverse_for(x: Tensor) -> Tensor:
    """What brings the largest number of ``x`` to the format's largest, in the type of ``x``."""
    import torch

    most = torch.linalg.vector_norm(x, ord=float("inf"), dtype=_wide(x))
    inverse: Tensor = (_LARGEST / most).clamp_(max=torch.finfo(x.dtype).max).to(x.dtype)
    return inverse


def _inverse_after(norm: Norm) -> Tensor:
    """The same for whatever a layer norm can give."""
    import torch

    weight, bias = norm.weight.double().abs(), norm.bias.double().abs()
    most = (weight * weight.numel() ** 0.5 + bias).amax()
    largest = torch.finfo(norm.weight.dtype).max
    inverse: Tensor = (_LARGEST / most).clamp_(max=largest).to(norm.weight.dtype)
    return inverse


def _wide(x: Tensor) -> torch.dtype:
    import torch

    return torch.float64 if x.dtype == torch.float64 else torch.float32


def require_fp8(device: str) -> None:
    """Refuse a GPU that does not multiply such numbers; the CPU emulates it.

    Raises:
        InvalidRequest: it is one of those.
    """
    if not device.startswith("cuda"):
        return
    import torch

    found = torch.cuda.get_device_capability(device)
    if found < LEAST_CAPABILITY:
        raise unable(torch.cuda.get_device_name(device), found)


def unable(gpu: str, capability: tuple[int, int]) -> InvalidRequest:
    """The refusal of a GPU."""
    has, needs = (".".join(map(str, one)) for one in (capability, LEAST_CAPABILITY))
    return InvalidRequest(
        f"speed: fp8 needs a GPU of compute capability {needs} (RTX 40 series, L4, H100 or newer); "
        f"{gpu} has {has}",
        hint="Write --speed exact or --speed cached.",
        field="speed",
    )


def wide_enough(inputs: int) -> bool:
    """Whether a layer of so many inputs is to be in 8 bits."""
    return inputs >= LEAST_INPUTS


def in_fp8(weights: UNetWeights) -> UNetWeights:
    """The network with its transformer blocks' wide linear layers in 8 bits; all else is as it was."""
    fold = _Rounding()
    return replace(
        weights,
        down=tuple(map(fold.stage, weights.down)),
        mid=fold.stage(weights.mid),
        up=tuple(map(fold.stage, weights.up)),
    )


class _Rounding:
    """Walks a network."""

    def stage(self, stage: Stage) -> Stage:
        layers = ((block, None if t is None else self._transformer(t)) for block, t in stage.layers)
        return replace(stage, layers=tuple(layers))

    def _transformer(self, transformer: Transformer) -> Transformer:
        pairs = ((self._spatial(s), self._temporal(t)) for s, t in transformer.blocks)
        return replace(transformer, blocks=tuple(pairs))

    def _spatial(self, block: SpatialBlock) -> SpatialBlock:
        return replace(
            block,
            attention=self._attention(block.attention, block.norm1),
            feed_forward=self._feed_forward(block.feed_forward, block.norm3),
        )

    def _temporal(self, block: TemporalBlock) -> TemporalBlock:
        return replace(
            block,
            feed_forward_in=self._feed_forward(block.feed_forward_in, block.norm_in),
            attention=self._attention(block.attention, block.norm1),
            feed_forward=self._feed_forward(block.feed_forward, block.norm3),
        )

    def _attention(self, attention: Attention, norm: Norm) -> Attention:
        return replace(
            attention,
            qkv=self._layer(attention.qkv, norm),
            out=self._layer(attention.out, None),
        )

    def _feed_forward(self, block: FeedForward, norm: Norm) -> FeedForward:
        return replace(block, proj=self._layer(block.proj, norm), out=self._layer(block.out, None))

    @staticmethod
    def _layer(layer: Affine | Fp8Affine, norm: Norm | None) -> Affine | Fp8Affine:
        outputs, inputs = layer.weight.shape
        whole = not outputs % _MULTIPLE and not inputs % _MULTIPLE
        if isinstance(layer, Fp8Affine) or not wide_enough(inputs) or not whole:
            return layer
        return rounded(layer, norm)


def rounded(layer: Affine, norm: Norm | None) -> Fp8Affine:
    """A linear layer in 8 bits. Its input is what ``norm`` gives; anything where that is None."""
    import torch

    most = layer.weight.abs().amax().float()
    scale = torch.where(most > 0, most / _LARGEST, torch.ones_like(most))
    return Fp8Affine(
        weight=(layer.weight.float() / scale).to(torch.float8_e4m3fn),
        scale=scale,
        bias=layer.bias,
        inverse=None if norm is None else _inverse_after(norm),
    )
