"""What the ablation looks at: a UNet with random weights, folded, and the inputs of one guided clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor

from svd_local.engine.architecture import full_size
from svd_local.engine.fused.unet import ClipConstants, FusedUNet

NARROW = {"block_out_channels": (96, 160, 320, 320), "num_attention_heads": (2, 4, 5, 5)}


@dataclass(frozen=True)
class Size:
    """The model, and the size of a clip."""

    device: str
    dtype: torch.dtype
    frames: int
    height: int
    width: int
    unet: dict[str, Any]

    def random(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, dtype=self.dtype, device=self.device)


CPU = Size("cpu", torch.float32, 14, 24, 40, NARROW)
CUDA = Size("cuda", torch.float16, 25, 72, 128, dict(full_size(25).unet))


@dataclass(frozen=True)
class Subject:
    """A model and a clip's inputs and constants; ``image``, ``context`` and ``ids`` are of both halves."""

    size: Size
    unet: UNetSpatioTemporalConditionModel
    fused: FusedUNet
    clip: ClipConstants
    latents: Tensor
    image: Tensor
    context: Tensor
    ids: Tensor
    timesteps: Tensor
    guidance: Tensor

    @classmethod
    def of(cls, unet: UNetSpatioTemporalConditionModel, size: Size) -> Subject:
        """Fold ``unet`` and prepare a clip with a schedule of one step."""
        image = size.random(2, 4, size.height, size.width)
        context = size.random(2, 1, unet.config["cross_attention_dim"])
        ids = size.random(1, 3).abs()
        timesteps = torch.full((1,), 0.5, device=size.device)
        guidance = torch.linspace(1, 3, size.frames, dtype=size.dtype, device=size.device)
        fused = FusedUNet.from_reference(unet)
        clip = fused.prepare(
            image_latents=image,
            image_embeddings=context,
            added_time_ids=ids,
            timesteps=timesteps,
            num_frames=size.frames,
            guidance=guidance,
        )
        latents = size.random(1, size.frames, 4, size.height, size.width)
        both = ids.expand(2, 3)
        return cls(size, unet, fused, clip, latents, image, context, both, timesteps, guidance)

    def step(self) -> Tensor:
        """The fused, guided step."""
        return self.fused.step(self.latents, self.clip, 0)

    def reference_step(self) -> Tensor:
        """The same as the pipeline makes it."""
        images = self.image[:, None].repeat(1, self.size.frames, 1, 1, 1)
        sample = torch.cat([torch.cat([self.latents] * 2), images], dim=2)
        prediction = self.unet(sample, self.timesteps, self.context, self.ids, return_dict=False)
        plain, guided = torch.chunk(prediction[0], 2)
        mixed: Tensor = plain + self.guidance[None, :, None, None, None] * (guided - plain)
        return mixed
