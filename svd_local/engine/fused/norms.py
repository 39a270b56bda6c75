"""Group norm over rows of channels, whole or in two passes, with the SiLU that mostly follows.

A row is one position's channels, so an item is (rows, channels) and memory is read as it lies. Mean and
deviation are taken per channel in two sweeps (the sum of squares minus the squared sum would cancel), then
merged over each group's channels and over pieces by the formula of Chan, Golub and LeVeque (1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from svd_local.engine.fused.kernels.choice import takes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from svd_local.engine.fused.weights import Norm

Scaling = tuple["Tensor", "Tensor"]
"""What turns rows (n, r, c) into their norm, ``rows * scale + shift``: both (n, 1, c)."""


def group_norm(rows: Tensor, norm: Norm) -> Tensor:
    """Normalise each item of (n, r, c) over all rows and each group of channels: a new tensor."""
    return _normalise(rows, norm, silu=False)


def group_norm_silu(rows: Tensor, norm: Norm, added: Tensor | None = None) -> Tensor:
    """SiLU of the group norm of (n, r, c): a new tensor.

    ``added`` (k, c), where k divides n, is what the rows of n/k items each are still to get before it.
    """
    return _normalise(rows, norm, added, silu=True)


def _normalise(rows: Tensor, norm: Norm, added: Tensor | None = None, *, silu: bool) -> Tensor:
    if takes("group-norm", rows, rows.shape[-1]):
        return _by_kernel(rows, norm, added, silu=silu)
    if added is not None:
        rows = rows + added.repeat_interleave(rows.shape[0] // added.shape[0], dim=0)[:, None]
    if rows.device.type != "cpu":
        return _by_torch(rows, norm, silu=silu)
    wide = widened(rows)
    spare = wide.new_empty(wide.shape)
    moments = _channel_moments(wide, spare)
    scaling = scaling_of(merge_channels(moments, norm.groups), norm, wide.dtype)
    return _apply(wide, scaling, spare, silu=silu).to(rows.dtype)


def _by_kernel(rows: Tensor, norm: Norm, added: Tensor | None, *, silu: bool) -> Tensor:
    import torch

    result: Tensor = torch.ops.svd_local.group_norm(
        rows.contiguous(), norm.weight, norm.bias, added, norm.groups, norm.eps, silu
    )
    return result


def _by_torch(rows: Tensor, norm: Norm, *, silu: bool) -> Tensor:
    """Where torch's own kernel is the quicker one: it has none for this layout on the CPU."""
    from torch.nn import functional

    images = rows.transpose(1, 2).unsqueeze(-1)
    out = functional.group_norm(images, norm.groups, norm.weight, norm.bias, norm.eps)
    if silu:
        out = functional.silu(out, inplace=True)
    return out.squeeze(-1).transpose(1, 2).contiguous()


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and mean squared deviation of ``count`` numbers each: (n, c) or (n, groups)."""

    count: int
    mean: Tensor
    variance: Tensor

    def merged(self, other: Moments) -> Moments:
        """Of both together."""
        total = self.count + other.count
        share = other.count / total
        gap = other.mean - self.mean
        variance = self.variance + (other.variance - self.variance) * share
        variance = variance + gap * gap * (share * (1 - share))
        return Moments(total, self.mean + gap * share, variance)


def piece_moments(rows: Tensor, groups: int) -> Moments:
    """Of each group of channels in one piece (n, r, c)."""
    if takes("group-norm", rows, rows.shape[-1]):
        return merge_channels(_moments_by_kernel(rows), groups)
    wide = widened(rows)
    return merge_channels(_channel_moments(wide, wide.new_empty(wide.shape)), groups)


def _moments_by_kernel(rows: Tensor) -> Moments:
    import torch

    mean, variance = torch.ops.svd_local.channel_moments(rows.contiguous())
    return Moments(rows.shape[1], mean.double(), variance.double())


def _channel_moments(rows: Tensor, spare: Tensor) -> Moments:
    """Of each channel; ``spare`` is memory of the rows' size to work in."""
    import torch

    mean = rows.mean(1)
    torch.sub(rows, mean[:, None], out=spare)
    return Moments(rows.shape[1], mean.double(), spare.square_().mean(1).double())


def merge_channels(moments: Moments, groups: int) -> Moments:
    """From channels to groups of channels."""
    items = moments.mean.shape[0]
    mean = moments.mean.view(items, groups, -1)
    group_mean = mean.mean(-1)
    variance = moments.variance.view(items, groups, -1)
    variance = (variance + (mean - group_mean[..., None]).square()).mean(-1)
    return Moments(moments.count * mean.shape[-1], group_mean, variance)


def scaling_of(moments: Moments, norm: Norm, dtype: torch.dtype) -> Scaling:
    """Scale and shift of each channel, from the moments of its group."""
    import torch

    size = norm.weight.shape[0] // norm.groups
    inverse = torch.rsqrt(moments.variance + norm.eps).repeat_interleave(size, dim=1)
    scale = inverse * norm.weight.double()
    shift = norm.bias.double() - moments.mean.repeat_interleave(size, dim=1) * scale
    return scale[:, None].to(dtype), shift[:, None].to(dtype)


def apply_silu(rows: Tensor, scaling: Scaling) -> Tensor:
    """SiLU of ``rows * scale + shift``, in the rows' type: a new tensor."""
    if takes("group-norm", rows, rows.shape[-1]):
        return _scaled_by_kernel(rows, scaling)
    wide = widened(rows)
    return _apply(wide, scaling, wide.new_empty(wide.shape), silu=True).to(rows.dtype)


def _scaled_by_kernel(rows: Tensor, scaling: Scaling) -> Tensor:
    import torch

    scale, shift = (part[:, 0] for part in scaling)
    result: Tensor = torch.ops.svd_local.scaled_silu(rows.contiguous(), scale, shift)
    return result


def _apply(rows: Tensor, scaling: Scaling, out: Tensor, *, silu: bool) -> Tensor:
    import torch
    from torch.nn import functional

    scale, shift = scaling
    torch.addcmul(shift, rows, scale, out=out)
    return functional.silu(out, inplace=True) if silu else out


def widened(x: Tensor) -> Tensor:
    """In at least single precision."""
    import torch

    return x if x.dtype in (torch.float32, torch.float64) else x.float()
