"""The few operations everything is made of, each in one place so that a quicker kernel has one door.

A ``bias`` that belongs to a clip has the shape (rows, channels): one row when it is the same for the
whole batch, else one row per batch item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from svd_local.engine.fused.attention import by_measurement
from svd_local.engine.fused.fp8 import product_
from svd_local.engine.fused.kernels.choice import takes, takes_frames
from svd_local.engine.fused.layout import as_images, from_images
from svd_local.engine.fused.weights import Affine, Fp8Affine

if TYPE_CHECKING:
    from torch import Tensor

    from svd_local.engine.fused.weights import FeedForward, Norm


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention over (batch, heads, tokens, head size), any strides."""
    from torch.nn.functional import scaled_dot_product_attention

    with by_measurement(query):
        return scaled_dot_product_attention(query, key, value)


def linear(x: Tensor, affine: Affine) -> Tensor:
    """The last axis times weight^T, plus bias."""
    from torch.nn import functional

    return functional.linear(x, affine.weight, affine.bias)


def linear_(x: Tensor, layer: Affine | Fp8Affine, bias: Tensor | None = None) -> Tensor:
    """As `linear`, of an input that nobody needs any more: a layer in 8 bits scales it in place.

    ``bias`` stands in for the layer's own.
    """
    from torch.nn import functional

    bias = layer.bias if bias is None else bias
    if isinstance(layer, Fp8Affine):
        return product_(x, layer, bias)
    return functional.linear(x, layer.weight, bias)


def layer_norm(x: Tensor, norm: Norm) -> Tensor:
    """Normalise the last axis."""
    from torch.nn import functional

    return functional.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def convolve(images: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> Tensor:
    """A 2-D convolution of (n, c, h, w) with a clip's bias (rows, channels); rows divide n."""
    from torch.nn.functional import conv2d

    if bias.shape[0] == 1:
        return conv2d(images, weight, bias[0], padding=padding)
    out = conv2d(images, weight, padding=padding)
    rows = bias.repeat_interleave(images.shape[0] // bias.shape[0], dim=0)
    return out.add_(rows[:, :, None, None])


def conv3x3(x: Tensor, affine: Affine, stride: int = 1) -> Tensor:
    """A 3x3 convolution of (b, f, h, w, c) with padding 1."""
    from torch.nn.functional import conv2d

    images = conv2d(as_images(x), affine.weight, affine.bias, stride=stride, padding=1)
    return from_images(images, x.shape[0])


def convolve_for_norm(
    images: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:
    """As `convolve`; the bias itself where the group norm after it can add it for nothing."""
    from torch.nn.functional import conv2d

    if takes("group-norm", images, weight.shape[0]):
        return conv2d(images, weight, padding=padding), bias
    return convolve(images, weight, bias, padding), None


def feed_forward(x: Tensor, weights: FeedForward) -> Tensor:
    """GEGLU, projected back. Nobody needs ``x`` any more."""
    return linear_(geglu(x, weights.proj), weights.out)


def geglu(x: Tensor, proj: Affine | Fp8Affine) -> Tensor:
    """Value times GELU(gate), both from one product of x (..., channels), which nobody needs any more."""
    import torch
    from torch.nn.functional import gelu

    width = x.shape[-1]
    if isinstance(proj, Affine) and takes("geglu-product", x, width):
        out = torch.ops.svd_local.geglu_product(x.reshape(-1, width), proj.weight, proj.bias)
        return out.view(*x.shape[:-1], -1)  # type: ignore[no-any-return]
    both = linear_(x, proj)
    if takes("geglu", x, width):
        out = torch.ops.svd_local.geglu(both.flatten(0, -2), width)
        return out.view(*x.shape[:-1], -1)  # type: ignore[no-any-return]
    value, gate = both.chunk(2, dim=-1)
    return gelu(gate).mul_(value)


def attend_over_frames(qkv: Tensor, heads: int) -> Tensor:
    """Attention among the frames of each position: (b, f, n, 3 * c) to (b, f, n, c).

    Torch's takes each item by itself, because then the heads are a strided view. Its result's memory is
    ordered as the query's is, so with one item nothing is copied.
    """
    import torch

    if takes_frames(qkv, heads):
        return torch.ops.svd_local.temporal_attention(qkv, heads)  # type: ignore[no-any-return]
    items, frames, positions, _ = qkv.shape
    if items > 1:
        return torch.cat([attend_over_frames(item, heads) for item in torch.split(qkv, 1)])
    query, key, value = qkv.view(frames, positions, 3, heads, -1).permute(2, 1, 3, 0, 4).unbind(0)
    return attend(query, key, value).permute(2, 0, 1, 3).reshape(1, frames, positions, -1)


def add_projected_(x: Tensor, y: Tensor, layer: Affine | Fp8Affine, bias: Tensor) -> None:
    """Add y @ weight^T and a clip's bias to x (b, ..., c) in place. Nobody needs ``y`` any more."""
    if bias.shape[0] == 1:
        x.add_(linear_(y, layer, bias[0]))
        return
    for item in range(x.shape[0]):
        x[item].add_(linear_(y[item], layer, bias[item]))


def add_projected_and_norm_(
    x: Tensor, y: Tensor, layer: Affine | Fp8Affine, bias: Tensor, norm: Norm
) -> Tensor:
    """The same to x (b, f, n, c), and the layer norm of what it has become."""
    import torch

    if takes("add-layer-norm", x, x.shape[-1]):
        made = _unbiased_(y, layer).flatten(1, 2)
        normed = torch.ops.svd_local.add_layer_norm_(
            x.flatten(1, 2), made, bias, norm.weight, norm.bias, norm.eps
        )
        return normed.view(x.shape)  # type: ignore[no-any-return]
    add_projected_(x, y, layer, bias)
    return layer_norm(x, norm)


def _unbiased_(x: Tensor, layer: Affine | Fp8Affine) -> Tensor:
    from torch.nn import functional

    if isinstance(layer, Fp8Affine):
        return product_(x, layer, None)
    return functional.linear(x, layer.weight)
