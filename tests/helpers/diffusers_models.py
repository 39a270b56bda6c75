"""Networks and a pipeline of the odd sizes that diffusers' own tests have, with seeded random weights."""

from __future__ import annotations

from typing import Any

import torch

IDS = 32
UNET = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "cross_attention_dim": 32,
    "num_attention_heads": 8,
    "out_channels": 4,
    "in_channels": 4,
    "layers_per_block": 2,
    "sample_size": 32,
    "projection_class_embeddings_input_dim": 3 * IDS,
    "addition_time_embed_dim": IDS,
}
VAE = {
    "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "latent_channels": 4,
    "layers_per_block": 2,
}
CLIP = {
    "hidden_size": 32,
    "projection_dim": 32,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": 224,  # what the pipeline makes of a picture
    "intermediate_size": 37,
    "patch_size": 32,
}


def a_unet(**changes: Any) -> Any:
    from diffusers import UNetSpatioTemporalConditionModel

    torch.manual_seed(0)
    return UNetSpatioTemporalConditionModel(**{**UNET, **changes}).eval()


def a_vae() -> Any:
    from diffusers import AutoencoderKLTemporalDecoder

    torch.manual_seed(0)
    return AutoencoderKLTemporalDecoder(**VAE).eval()


def a_pipeline(dtype: torch.dtype = torch.float32) -> Any:
    from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    unet, vae = a_unet(in_channels=8), a_vae()
    torch.manual_seed(0)
    pipeline = StableVideoDiffusionPipeline(
        unet=unet,
        vae=vae,
        image_encoder=CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP)).eval(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            sigma_max=700.0,
            sigma_min=0.002,
            steps_offset=1,
            timestep_spacing="leading",
            timestep_type="continuous",
            use_karras_sigmas=True,
        ),
        feature_extractor=CLIPImageProcessor(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(dtype)
