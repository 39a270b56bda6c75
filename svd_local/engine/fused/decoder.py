"""The fused decoder: latents to frames, all at once or frame by frame, with the same result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from svd_local.engine.fused.decoder_parts import biases, enter, leave, prepared, to_bytes
from svd_local.engine.fused.fold_decoder import fold_decoder
from svd_local.engine.fused.layout import as_tokens
from svd_local.engine.fused.passes import WHOLE
from svd_local.engine.fused.regions import Compilation, working
from svd_local.engine.fused.resblock import joined_spatial, temporal_
from svd_local.engine.fused.streaming import Streaming, stream
from svd_local.engine.fused.weights import DecoderWeights, map_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class FusedDecoder:
    """The decoder of an `AutoencoderKLTemporalDecoder`, rewritten to do the same with less work.

    Attributes:
        weights: the folded network.
        scaling_factor: what the denoiser's latents are to be divided by.
        streaming: how to decode in little memory; None decodes all frames at once.
        compilation: what of a decode of all frames at once is compiled; None for nothing.
    """

    weights: DecoderWeights
    scaling_factor: float
    streaming: Streaming | None = None
    compilation: Compilation | None = None

    @classmethod
    def from_reference(cls, vae: nn.Module, dtype: torch.dtype | None = None) -> FusedDecoder:
        """Fold the decoder of a loaded VAE. Weights that need no folding share its memory.

        Args:
            vae: the diffusers model, its weights on a device, in any floating type.
            dtype: type of the folded weights; the model's own where None.

        Raises:
            UnknownPart: some part of it is of a kind whose arithmetic is not known here.
        """
        weights = fold_decoder(vae, dtype)
        return cls(weights, float(vae.config.scaling_factor))  # type: ignore[union-attr,arg-type]

    def to(self, device: torch.device | str) -> FusedDecoder:
        """A copy on another device."""
        return replace(self, weights=map_tensors(self.weights, lambda w: w.to(device)))

    def decode(self, latents: Tensor, num_frames: int | None = None) -> Tensor:
        """What the VAE's ``decode(latents, num_frames).sample`` is.

        Args:
            latents: (clips * num_frames, channels, h, w), divided by the scaling factor.
            num_frames: frames of each clip; all of them where None.

        Returns:
            (clips * num_frames, 3, height, width), about -1 to 1.

        Raises:
            ValueError: the frames cannot be dealt out to clips of that length.
        """
        import torch

        count = num_frames or latents.shape[0]
        if latents.shape[0] % count:
            raise ValueError(f"{latents.shape[0]} frames are no whole number of clips of {count}")
        pictures = [p for clip in torch.split(latents, count) for p in self._pictures(clip)]
        return torch.cat(pictures, dim=1)[0].permute(0, 3, 1, 2).contiguous()

    def pixels(self, latents: Tensor) -> Iterator[Tensor]:
        """One clip's frames in order, each as soon as it is finished.

        Args:
            latents: (f, channels, h, w) as the denoiser leaves them.

        Yields:
            uint8 (height, width, 3) on the latents' device, rounded as the pipeline rounds.
        """
        for picture in self.pictures(latents):
            yield to_bytes(picture)

    def pictures(self, latents: Tensor) -> Iterator[Tensor]:
        """As `pixels`, but before rounding: (1, 1, height, width, 3), about -1 to 1."""
        return self._pictures(latents * (1 / self.scaling_factor))

    def _pictures(self, latents: Tensor) -> Iterator[Tensor]:
        import torch

        latents = latents.to(self.weights.conv_in.weight.dtype)
        if self.streaming is None:
            with working(self.compilation):
                last = _at_once(latents, self.weights)
            return leave(torch.split(last, 1, dim=1), self.weights)
        return leave(stream(latents, self.weights, self.streaming), self.weights)


def _at_once(latents: Tensor, weights: DecoderWeights) -> Tensor:
    """The last map of all frames: (1, f, h, w, c)."""
    x = enter(latents, weights)
    for layer in weights.layers:
        block, (spatial_bias, temporal_bias) = layer.block, biases(layer.block)
        x = joined_spatial((prepared(x, layer.before),), block.spatial, spatial_bias, WHOLE)
        temporal_(as_tokens(x), block.temporal, temporal_bias, WHOLE)
    return x
