"""Where a single file has every weight of the three networks, and what else it may hold."""

from __future__ import annotations

import re
from collections.abc import Collection

from svd_local.engine.architecture import Architecture
from svd_local.engine.original.image_encoder import image_encoder_weights
from svd_local.engine.original.unet import unet_weights
from svd_local.engine.original.vae import vae_weights
from svd_local.engine.original.weights import Weight

_UNUSED = re.compile(
    r"conditioner\.embedders\.0\.open_clip\.model\.(?!visual\.)"  # CLIP's half for words
    r"|conditioner\.embedders\.0\.open_clip\.(mean|std)$"
    r"|conditioner\.embedders\.0\.open_clip\.model\.visual\.vision_model\.embeddings\.position_ids$"
    r"|conditioner\.embedders\.3\.encoder\.(decoder|post_quant_conv|loss)\."
    r"|first_stage_model\.(encoder|quant_conv|post_quant_conv|loss)\."  # where the conditioner has its own
    r"|model_ema\."  # averages kept while training
    r"|denoiser\."  # tables of noise levels
)
"""What the original program saves as well and this model never runs."""


def layout_of(architecture: Architecture, keys: Collection[str]) -> dict[str, tuple[Weight, ...]]:
    """The weights of each network, with their places in a file that has these ``keys``."""
    return {
        "unet": tuple(unet_weights(architecture.unet)),
        "vae": tuple(vae_weights(architecture.vae, keys)),
        "image_encoder": tuple(image_encoder_weights(architecture.image_encoder, keys)),
    }


def is_unused(key: str) -> bool:
    """Whether a weight of this name belongs to the original program and is not needed."""
    return _UNUSED.match(key) is not None
