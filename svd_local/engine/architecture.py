"""What Stable Video Diffusion is made of, as configurations, and how to build it without weights.

The real architecture is the one of the published svd and svd-xt checkpoints, which differ only in
their frame count. The tiny one has the same classes and block types, narrower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import StableVideoDiffusionPipeline

COMPONENTS = ("unet", "vae", "image_encoder")
"""The parts that have weights; the scheduler and the feature extractor are configuration only."""

_SCHEDULER: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
}
_DOWN_BLOCKS = ["CrossAttnDownBlockSpatioTemporal"] * 3 + ["DownBlockSpatioTemporal"]
_UP_BLOCKS = ["UpBlockSpatioTemporal"] + ["CrossAttnUpBlockSpatioTemporal"] * 3


@dataclass(frozen=True, slots=True)
class Architecture:
    """Keyword arguments of the three networks, what they come to, and what they are made for."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    image_encoder: Mapping[str, Any]
    parameters: Mapping[str, int]
    """Parameter count of each component, known without building it."""
    largest_tensor: int
    """Elements of the largest single weight."""
    width: int
    height: int
    frames: int


def full_size(frames: int) -> Architecture:
    """The architecture of svd (14 frames) and svd-xt (25): 1524.6 M + 97.7 M + 632.1 M parameters."""
    return Architecture(
        unet={
            **_unet([320, 640, 1280, 1280], heads=[5, 10, 20, 20], context=1024, time_embed=256),
            "sample_size": 96,
            "num_frames": frames,
        },
        vae={**_vae([128, 256, 512, 512]), "sample_size": 768},
        image_encoder=_clip(1280, 5120, layers=32, heads=16, patch=14, projection=1024),
        parameters={"unet": 1_524_623_082, "vae": 97_742_847, "image_encoder": 632_076_800},
        largest_tensor=29_491_200,
        width=1024,
        height=576,
        frames=frames,
    )


def tiny() -> Architecture:
    """The same classes and block types with 7.9 M parameters, 6 M of them the UNet's, for 256x144 and 14 frames."""
    return Architecture(
        unet={
            **_unet([32, 64, 64, 64], heads=[1, 2, 2, 2], context=64, time_embed=32),
            "sample_size": 32,
            "num_frames": 14,
        },
        vae={**_vae([32, 32, 64, 64]), "sample_size": 256},
        image_encoder=_clip(64, 128, layers=2, heads=2, patch=32, projection=64),
        parameters={"unet": 5_970_890, "vae": 1_637_599, "image_encoder": 271_168},
        largest_tensor=196_608,
        width=256,
        height=144,
        frames=14,
    )


def build(architecture: Architecture) -> StableVideoDiffusionPipeline:
    """The pipeline with untrained networks, on torch's current default device (``meta`` works)."""
    import torch
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    with torch.device("cpu"):  # its tables are read as numbers while it is made
        scheduler = EulerDiscreteScheduler(**_SCHEDULER)
    pipeline: StableVideoDiffusionPipeline = StableVideoDiffusionPipeline(
        vae=AutoencoderKLTemporalDecoder(**architecture.vae).eval(),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(**architecture.image_encoder)
        ).eval(),
        unet=UNetSpatioTemporalConditionModel(**architecture.unet).eval(),
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 224}, crop_size=224),
    )
    for name in COMPONENTS:
        getattr(pipeline, name).requires_grad_(False)
    return pipeline


def _unet(
    channels: list[int], *, heads: list[int], context: int, time_embed: int
) -> dict[str, Any]:
    return {
        "in_channels": 8,
        "out_channels": 4,
        "down_block_types": _DOWN_BLOCKS,
        "up_block_types": _UP_BLOCKS,
        "block_out_channels": channels,
        "layers_per_block": 2,
        "cross_attention_dim": context,
        "num_attention_heads": heads,
        "addition_time_embed_dim": time_embed,
        "projection_class_embeddings_input_dim": 3 * time_embed,
    }


def _vae(channels: list[int]) -> dict[str, Any]:
    return {
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
        "force_upcast": True,
    }


def _clip(
    width: int, inner: int, *, layers: int, heads: int, patch: int, projection: int
) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "patch_size": patch,
        "image_size": 224,
        "projection_dim": projection,
        "hidden_act": "gelu",
    }
