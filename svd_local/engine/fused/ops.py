"""The few operations everything is made of, each in one place so that a quicker kernel has one door.

A ``bias`` that belongs to a clip has the shape (rows, channels): one row when it is the same for the
whole batch, else one row per batch item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from svd_local.engine.fused.attention import by_measurement
from svd_local.engine.fused.fp8 import product_
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


def feed_forward(x: Tensor, weights: FeedForward) -> Tensor:
    """GEGLU: value times GELU(gate), projected back. Nobody needs ``x`` any more."""
    from torch.nn.functional import gelu

    value, gate = linear_(x, weights.proj).chunk(2, dim=-1)
    return linear_(gelu(gate).mul_(value), weights.out)
