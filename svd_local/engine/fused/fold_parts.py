"""From diffusers' modules to folded weights: the parts that UNet and decoder share.

Folding is done in double precision and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svd_local.engine.fused.resample import quarters
from svd_local.engine.fused.unknown import UnknownPart, known, known_value, known_weight
from svd_local.engine.fused.weights import Affine, Attention, Norm, Residual, Upsample

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Folder:
    """Turns modules into weights of one type.

    Attributes:
        dtype: type of the folded weights; None keeps each model's own.
    """

    dtype: torch.dtype | None = None

    def cast(self, weight: Tensor) -> Tensor:
        """To the wanted type; the same memory where nothing changes."""
        return weight if self.dtype is None else weight.to(self.dtype)

    def linear(self, module: nn.Module | None, part: str) -> Affine:
        """A linear layer as it is."""
        from torch import nn

        layer = known(module, nn.Linear, part)
        bias: Tensor | None = layer.bias
        if bias is not None:
            bias = self.cast(known_weight(bias, part))
        return Affine(self.cast(known_weight(layer.weight, part)), bias)

    def convolution(
        self,
        module: nn.Module | None,
        part: str,
        kernel: int,
        stride: int = 1,
    ) -> Affine:
        """A square 2-D convolution that keeps the size (times the stride), channels last."""
        import torch
        from torch import nn

        layer = known(module, nn.Conv2d, part)
        known_value(layer.kernel_size, (kernel, kernel), f"{part}.kernel_size")
        known_value(layer.stride, (stride, stride), f"{part}.stride")
        known_value(layer.padding, (kernel // 2, kernel // 2), f"{part}.padding")
        self._plain_convolution(layer, part)
        weight = self.cast(known_weight(layer.weight, part))
        weight = weight.contiguous(memory_format=torch.channels_last)
        return Affine(weight, self.cast(known_weight(_bias(layer, part), part)))

    def temporal_convolution(
        self, module: nn.Module | None, part: str, factor: Tensor | None = None
    ) -> Affine:
        """A (3, 1, 1) convolution as a 2-D (3, 1) one, times ``factor``."""
        import torch
        from torch import nn

        layer = known(module, nn.Conv3d, part)
        known_value(layer.kernel_size, (3, 1, 1), f"{part}.kernel_size")
        known_value(layer.stride, (1, 1, 1), f"{part}.stride")
        known_value(layer.padding, (1, 0, 0), f"{part}.padding")
        self._plain_convolution(layer, part)
        weight, bias = known_weight(layer.weight, part), known_weight(_bias(layer, part), part)
        dtype = self.dtype or weight.dtype
        if factor is not None:
            weight, bias = weight.double() * factor, bias.double() * factor
        weight = weight.squeeze(-1).to(dtype).contiguous(memory_format=torch.channels_last)
        return Affine(weight, bias.to(dtype))

    @staticmethod
    def _plain_convolution(layer: nn.Conv2d | nn.Conv3d, part: str) -> None:
        known_value(layer.groups, 1, f"{part}.groups")
        known_value(set(layer.dilation), {1}, f"{part}.dilation")
        known_value(layer.padding_mode, "zeros", f"{part}.padding_mode")

    def group_norm(self, module: nn.Module | None, part: str) -> Norm:
        """A group norm with its affine part."""
        from torch import nn

        norm = known(module, nn.GroupNorm, part)
        known_value(norm.affine, True, f"{part}.affine")
        weight, bias = known_weight(norm.weight, part), known_weight(norm.bias, part)
        return Norm(self.cast(weight), self.cast(bias), norm.eps, norm.num_groups)

    def layer_norm(self, module: nn.Module | None, part: str) -> Norm:
        """A layer norm over the channels with its affine part."""
        from torch import nn

        norm = known(module, nn.LayerNorm, part)
        known_value(norm.elementwise_affine and norm.bias is not None, True, f"{part}.affine")
        known_value(len(norm.normalized_shape), 1, f"{part}.normalized_shape")
        weight, bias = known_weight(norm.weight, part), known_weight(norm.bias, part)
        return Norm(self.cast(weight), self.cast(bias), norm.eps)

    def attention(self, module: Any, part: str) -> Attention:
        """Query, key and value of an attention checked by `plain_attention`, as one product."""
        import torch

        query, key, value = (
            self.linear(getattr(module, name), f"{part}.{name}")
            for name in ("to_q", "to_k", "to_v")
        )
        bias = None
        if query.bias is not None and key.bias is not None and value.bias is not None:
            bias = torch.cat([query.bias, key.bias, value.bias])
        return Attention(
            qkv=Affine(torch.cat([query.weight, key.weight, value.weight]), bias),
            out=self.linear(module.to_out[0], f"{part}.to_out.0"),
            heads=module.heads,
        )

    def spatial_residual(self, module: nn.Module | None, part: str) -> Residual:
        """The 2-D half of a resblock."""
        from diffusers.models.resnet import ResnetBlock2D

        block = known(module, ResnetBlock2D, part)
        for option in ("upsample", "downsample"):
            known_value(getattr(block, option), None, f"{part}.{option}")
        known_value(block.time_embedding_norm, "default", f"{part}.time_embedding_norm")
        known_value(block.output_scale_factor, 1.0, f"{part}.output_scale_factor")
        known_value(block.skip_time_act, False, f"{part}.skip_time_act")
        self._activation_and_dropout(block, part)
        shortcut = None
        if block.conv_shortcut is not None:
            shortcut = self.convolution(block.conv_shortcut, f"{part}.conv_shortcut", kernel=1)
            shortcut = Affine(shortcut.weight.flatten(1).contiguous(), shortcut.bias)
        return Residual(
            norm1=self.group_norm(block.norm1, f"{part}.norm1"),
            conv1=self.convolution(block.conv1, f"{part}.conv1", kernel=3),
            norm2=self.group_norm(block.norm2, f"{part}.norm2"),
            conv2=self.convolution(block.conv2, f"{part}.conv2", kernel=3),
            shortcut=shortcut,
        )

    def temporal_residual(self, module: nn.Module | None, part: str, share: Tensor) -> Residual:
        """The temporal half of a resblock.

        Its result is mixed with its own input, ``a * x + (1 - a) * (x + h) = x + (1 - a) * h``: the
        share 1 - a goes into the last convolution.
        """
        from diffusers.models.resnet import TemporalResnetBlock

        block = known(module, TemporalResnetBlock, part)
        known_value(block.conv_shortcut, None, f"{part}.conv_shortcut")
        self._activation_and_dropout(block, part)
        return Residual(
            norm1=self.group_norm(block.norm1, f"{part}.norm1"),
            conv1=self.temporal_convolution(block.conv1, f"{part}.conv1"),
            norm2=self.group_norm(block.norm2, f"{part}.norm2"),
            conv2=self.temporal_convolution(block.conv2, f"{part}.conv2", share),
            shortcut=None,
        )

    @staticmethod
    def _activation_and_dropout(block: Any, part: str) -> None:
        from torch import nn

        known(block.nonlinearity, nn.SiLU, f"{part}.nonlinearity")
        known_no_dropout(block.dropout, f"{part}.dropout")

    def upsample(self, module: nn.Module | None, part: str) -> Upsample:
        """A nearest-neighbour enlargement with its convolution, whole and in quarters."""
        import torch
        from diffusers.models.upsampling import Upsample2D

        block = known(module, Upsample2D, part)
        known_value(block.norm, None, f"{part}.norm")
        known_value(block.use_conv_transpose, False, f"{part}.use_conv_transpose")
        known_value(block.interpolate, True, f"{part}.interpolate")
        conv = self.convolution(block.conv, f"{part}.conv", kernel=3)
        exact = known_weight(block.conv.weight, part).double()
        top_left, top_right, bottom_left, bottom_right = (
            quarter.to(conv.weight.dtype).contiguous(memory_format=torch.channels_last)
            for quarter in quarters(exact)
        )
        return Upsample(conv, (top_left, top_right, bottom_left, bottom_right))


def temporal_share(module: nn.Module | None, part: str) -> Tensor:
    """How much of a blend is its temporal side, a double-precision scalar, for clips (not images)."""
    import torch
    from diffusers.models.resnet import AlphaBlender

    blender = known(module, AlphaBlender, part)
    factor = known_weight(blender.mix_factor, part).double().reshape(())
    spatial = factor if blender.merge_strategy == "fixed" else torch.sigmoid(factor)
    return spatial if blender.switch_spatial_to_temporal_mix else 1.0 - spatial


def plain_attention(module: nn.Module, part: str, *, residual: bool = False) -> Any:
    """Scaled dot-product attention by either of diffusers' two plain processors.

    Args:
        module: the attention.
        part: its name in the model.
        residual: whether it normalises its input by groups and adds it to its output.

    Raises:
        UnknownPart: anything else.
    """
    from diffusers.models.attention_processor import Attention as ReferenceAttention
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    attention: Any = known(module, ReferenceAttention, part)
    processor = type(attention.processor)
    if processor not in (AttnProcessor, AttnProcessor2_0):
        raise UnknownPart(f"{part}.processor", processor.__name__, "AttnProcessor2_0")
    for name in ("spatial_norm", "norm_q", "norm_k", "norm_cross", "added_kv_proj_dim"):
        known_value(getattr(attention, name), None, f"{part}.{name}")
    known_value(attention.group_norm is not None, residual, f"{part}.group_norm")
    known_value(attention.residual_connection, residual, f"{part}.residual_connection")
    known_value(attention.rescale_output_factor, 1.0, f"{part}.rescale_output_factor")
    known_value(attention.scale_qk, True, f"{part}.scale_qk")
    known_value(attention.inner_kv_dim, attention.inner_dim, f"{part}.inner_kv_dim")
    known_no_dropout(attention.to_out[1], f"{part}.to_out.1")
    if attention.to_out[0].bias is None:
        raise UnknownPart(f"{part}.to_out.0", "a linear layer without bias", "one with a bias")
    return attention


def known_no_dropout(module: nn.Module | None, part: str) -> None:
    """Check that nothing is dropped: rate zero, or not in training.

    Raises:
        UnknownPart: something would be dropped.
    """
    from torch import nn

    dropout = known(module, nn.Dropout, part)
    known_value(dropout.p > 0 and dropout.training, False, part)


def _bias(layer: nn.Conv2d | nn.Conv3d, part: str) -> Tensor:
    if layer.bias is None:
        raise UnknownPart(part, "a convolution without bias", "one with a bias")
    return layer.bias
