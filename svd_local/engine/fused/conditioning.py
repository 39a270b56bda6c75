"""Everything that is constant within a clip, worked out once instead of at every step.

- Time: the embedding is the same for all frames, so each resblock needs one vector a step. It goes into
  the bias of the convolution that it is added to.
- Frame places: the little network over 0 ... f-1 in each transformer has one answer.
- Cross-attention: the context is a single token, so the softmax over it is 1 and the output is
  ``to_out(to_v(context))`` for every position, frame and step, whatever the query. It goes into the bias
  of the self-attention's output before it.

These weights are used once a clip: they may stay in host memory while the network is on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from svd_local.engine.fused.transformer import TransformerConstants

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from svd_local.engine.fused.weights import Affine

    Sinusoid = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Mlp:
    """Linear, SiLU, linear."""

    first: Affine
    second: Affine


@dataclass(frozen=True, slots=True)
class Context:
    """Cross-attention to one token: value projection and output.

    The output's bias holds also that of the self-attention before it, which the constant is added to.
    """

    value: Affine
    out: Affine


@dataclass(frozen=True, slots=True)
class TransformerConditioning:
    """Of one transformer: frame places, and the cross-attentions of each pair of blocks."""

    place: Sinusoid
    frames: Mlp
    contexts: tuple[tuple[Context, Context], ...]


@dataclass(frozen=True, slots=True)
class Conditioning:
    """All of a UNet's weights that only its conditioning meets.

    ``residuals`` are the time projections of each resblock, spatial and temporal, each with the bias
    of the convolution that follows. ``place``, ``time`` and ``added`` are the plain sinusoids, which
    have no weights.
    """

    time: Sinusoid
    time_mlp: Mlp
    added: Sinusoid
    added_mlp: Mlp
    residuals: tuple[tuple[Affine, Affine], ...]
    transformers: tuple[TransformerConditioning, ...]

    def time_biases(
        self, timesteps: Tensor, added_time_ids: Tensor, dtype: torch.dtype, device: torch.device
    ) -> tuple[tuple[Tensor, Tensor], ...]:
        """Of each resblock, the tables of conv1's biases over the steps: (steps, rows, channels).

        Args:
            timesteps: (steps,) as the scheduler gives them.
            added_time_ids: (rows, ids).
            dtype: of the result; the arithmetic is at least in single precision.
            device: where the result goes.
        """
        from torch.nn.functional import silu

        home = self.time_mlp.first.weight.device
        wide = _wide(self.time_mlp.first.weight)
        time = self.time(timesteps.to(home)).to(wide)
        added = self.added(added_time_ids.to(home).flatten()).to(wide)
        added = added.reshape(added_time_ids.shape[0], -1)
        embedding = _mlp(time, self.time_mlp)[:, None] + _mlp(added, self.added_mlp)[None]
        active = silu(embedding)
        return tuple(
            (
                _linear(active, spatial).to(device, dtype),
                _linear(active, temporal).to(device, dtype),
            )
            for spatial, temporal in self.residuals
        )

    def transformer_constants(
        self, context: Tensor, frames: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[TransformerConstants, ...]:
        """Of each transformer, its constants for a clip of ``frames`` frames.

        Args:
            context: (rows, channels), the one context token of each batch item.
            frames: how many frames.
            dtype: of the result; the arithmetic is at least in single precision.
            device: where the result goes.
        """
        import torch

        home = self.time_mlp.first.weight.device
        wide = _wide(self.time_mlp.first.weight)
        context = context.to(home, wide)
        order = torch.arange(frames, device=home)

        def constant(weights: Context) -> Tensor:
            return _linear(_linear(context, weights.value), weights.out).to(device, dtype)

        return tuple(
            TransformerConstants(
                frames=_mlp(weights.place(order).to(wide), weights.frames).to(device, dtype),
                contexts=tuple(
                    (constant(spatial), constant(temporal))
                    for spatial, temporal in weights.contexts
                ),
            )
            for weights in self.transformers
        )


def _wide(weight: Tensor) -> torch.dtype:
    """Double precision for a double-precision model, else single."""
    import torch

    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _linear(x: Tensor, affine: Affine) -> Tensor:
    from torch.nn import functional

    bias = None if affine.bias is None else affine.bias.to(x.dtype)
    return functional.linear(x, affine.weight.to(x.dtype), bias)


def _mlp(x: Tensor, weights: Mlp) -> Tensor:
    from torch.nn.functional import silu

    return _linear(silu(_linear(x, weights.first)), weights.second)
