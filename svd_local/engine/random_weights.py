"""Seeded random weights that keep activations in range, for checkpoints that were never trained.

Every linear and convolution is drawn with variance 1/fan-in and every residual branch ends damped,
so that 25 steps of a network 4 levels deep stay finite in fp16.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RESIDUAL_GAIN = 0.1
"""What the last layer of every residual branch is multiplied with."""
_BRANCH_ENDS = ("conv2", "to_out.0", "net.2", "proj_out", "out_proj", "fc2")
_EMBEDDING_STD = 0.02
_MIX = 0.5


def fill(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter and index buffer of ``module`` in place, on the device it lies on.

    ``generator`` must be of that device. The same seed, device and torch give the same weights.
    """
    import torch
    from torch import nn

    with torch.no_grad():
        for name, part in module.named_modules():
            if isinstance(part, (nn.Linear, nn.Conv2d, nn.Conv3d)):
                gain = RESIDUAL_GAIN if name.endswith(_BRANCH_ENDS) else 1.0
                fan_in = part.weight[0].numel()
                part.weight.normal_(0.0, gain / math.sqrt(fan_in), generator=generator)
                if part.bias is not None:
                    part.bias.zero_()
            elif isinstance(part, (nn.GroupNorm, nn.LayerNorm)):
                part.weight.fill_(1.0)
                part.bias.zero_()
            elif isinstance(part, nn.Embedding):
                part.weight.normal_(0.0, _EMBEDDING_STD, generator=generator)
            else:
                for own, parameter in part.named_parameters(recurse=False):
                    if own == "mix_factor":
                        parameter.fill_(_MIX)
                    else:
                        parameter.normal_(0.0, _EMBEDDING_STD, generator=generator)
            for own, buffer in part.named_buffers(recurse=False):
                if own != "position_ids":
                    raise ValueError(f"no rule for the buffer {name}.{own}")
                buffer.copy_(torch.arange(buffer.shape[-1], device=buffer.device))
