"""Every weight of the image encoder: OpenCLIP's ViT-H/14 and ``CLIPVisionModelWithProjection``.

Files saved by ComfyUI hold it under the same prefix with the names transformers gives it.

Sources: mlfoundations/open_clip, ``src/open_clip/transformer.py``; ComfyUI's ``comfy/clip_vision.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from svd_local.engine.original.weights import THIRDS, Weight, linear, norm

PREFIX = "conditioner.embedders.0.open_clip.model.visual"


def image_encoder_weights(config: Mapping[str, Any], keys: Collection[str]) -> Iterator[Weight]:
    """The weights of the encoder of ``config`` (transformers' words) in a file with these ``keys``."""
    converted = f"{PREFIX}.visual_projection.weight" in keys
    for weight in _encoder(config):
        if converted:
            yield Weight(weight.name, weight.shape, f"{PREFIX}.{weight.name}")
        else:
            yield Weight(weight.name, weight.shape, f"{PREFIX}.{weight.source}", weight.form)


def _encoder(config: Mapping[str, Any]) -> Iterator[Weight]:
    width, patch = config["hidden_size"], config["patch_size"]
    places = (config["image_size"] // patch) ** 2 + 1
    own, rest = "vision_model", "vision_model.embeddings"
    yield Weight(f"{rest}.class_embedding", (width,), "class_embedding")
    yield Weight(f"{rest}.patch_embedding.weight", (width, 3, patch, patch), "conv1.weight")
    yield Weight(f"{rest}.position_embedding.weight", (places, width), "positional_embedding")
    yield from norm(f"{own}.pre_layrnorm", "ln_pre", width)
    for layer in range(config["num_hidden_layers"]):
        name, place = f"{own}.encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        yield from _layer(name, place, width, config["intermediate_size"])
    yield from norm(f"{own}.post_layernorm", "ln_post", width)
    projection = (config["projection_dim"], width)
    yield Weight("visual_projection.weight", projection, "proj", "turned")


def _layer(name: str, source: str, width: int, inner: int) -> Iterator[Weight]:
    yield from norm(f"{name}.layer_norm1", f"{source}.ln_1", width)
    for part, third in zip(("q_proj", "k_proj", "v_proj"), THIRDS, strict=True):
        own, fused = f"{name}.self_attn.{part}", f"{source}.attn.in_proj"
        yield Weight(f"{own}.weight", (width, width), f"{fused}_weight", third)
        yield Weight(f"{own}.bias", (width,), f"{fused}_bias", third)
    yield from linear(f"{name}.self_attn.out_proj", f"{source}.attn.out_proj", width, width)
    yield from norm(f"{name}.layer_norm2", f"{source}.ln_2", width)
    yield from linear(f"{name}.mlp.fc1", f"{source}.mlp.c_fc", width, inner)
    yield from linear(f"{name}.mlp.fc2", f"{source}.mlp.c_proj", inner, width)
