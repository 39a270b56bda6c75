"""Writes checkpoints in Stability's original layout from folders in the diffusers layout.

The way back of what `svd_local.engine.original` does, by other means: names are rewritten piece by piece,
with the block numbers of a network of two layers a level, instead of being listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

UNET = "model.diffusion_model."
DECODER = "first_stage_model.decoder."
ENCODER = "conditioner.embedders.3.encoder."
CLIP = "conditioner.embedders.0.open_clip.model.visual."
FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "image_encoder": "model.safetensors",
}

_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_CLIP_PARTS = {
    "vision_model.embeddings.class_embedding": "class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.pre_layrnorm": "ln_pre",
    "vision_model.post_layernorm": "ln_post",
    "vision_model.encoder.layers": "transformer.resblocks",
    "layer_norm": "ln_",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def originals(networks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The tensors of the three networks under their original names. Meta tensors will do."""
    found = {}
    for name, tensor in networks["unet"].items():
        found[UNET + unet_name(name)] = tensor
    for name, tensor in networks["vae"].items():
        key = vae_name(name)
        one_by_one = re.search(r"mid\.attn_1\.(q|k|v|proj_out)\.weight$", key)
        found[key] = tensor[..., None, None] if one_by_one else tensor
    found.update(_clip(networks["image_encoder"]))
    return found


def unet_name(name: str) -> str:
    """As ``sgm`` calls it: blocks numbered through, temporal parts as a stack within the spatial ones."""
    for ours, theirs in {
        "conv_in.": "input_blocks.0.0.",
        "time_embedding.linear_1.": "time_embed.0.",
        "time_embedding.linear_2.": "time_embed.2.",
        "add_embedding.linear_1.": "label_emb.0.0.",
        "add_embedding.linear_2.": "label_emb.0.2.",
        "conv_norm_out.": "out.0.",
        "conv_out.": "out.2.",
    }.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    name = name.replace("time_pos_embed.linear_1", "time_pos_embed.0")
    name = name.replace("time_pos_embed.linear_2", "time_pos_embed.2")
    name = name.replace("temporal_transformer_blocks", "time_stack")
    for ours, theirs in _RESIDUAL.items():
        name = name.replace(f"spatial_res_block.{ours}", theirs)
        name = name.replace(f"temporal_res_block.{ours}", f"time_stack.{theirs}")
    kind, level, part, layer, rest = re.fullmatch(  # type: ignore[union-attr]
        r"(down|up|mid)_blocks?\.?(\d*)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)",
        name,
    ).groups()
    if kind == "mid":
        return f"middle_block.{1 if part == 'attentions' else 2 * int(layer)}.{rest}"
    first = 3 * int(level)
    if part == "downsamplers":
        return f"input_blocks.{first + 3}.0.op.{rest.removeprefix('conv.')}"
    if part == "upsamplers":
        return f"output_blocks.{first + 2}.{1 if level == '0' else 2}.{rest}"
    place = int(part == "attentions")
    if kind == "down":
        return f"input_blocks.{first + int(layer) + 1}.{place}.{rest}"
    return f"output_blocks.{first + int(layer)}.{place}.{rest}"


def vae_name(name: str) -> str:
    """As ``sgm`` calls it, in the first stage or in the conditioner."""
    if name.startswith("quant_conv."):
        return ENCODER + name
    half, rest = name.split(".", 1)
    rest = rest.replace("conv_norm_out", "norm_out").replace(
        "time_conv_out", "conv_out.time_mix_conv"
    )
    rest = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", rest)
    rest = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", rest)
    rest = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block", rest)
    rest = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", rest)
    rest = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", rest)
    rest = rest.replace("mid_block.attentions.0", "mid.attn_1")
    if "attn_1" in rest:
        rest = rest.replace("group_norm", "norm").replace("to_out.0", "proj_out")
        rest = re.sub(r"to_([qkv])\.", r"\1.", rest)
    for ours, theirs in _RESIDUAL.items():
        rest = rest.replace(f"temporal_res_block.{ours}", f"time_stack.{theirs}")
    rest = rest.replace("spatial_res_block.", "").replace("conv_shortcut", "nin_shortcut")
    rest = rest.replace("time_mixer.", "")
    return (DECODER if half == "decoder" else f"{ENCODER}encoder.") + rest


def _clip(tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    import torch

    for name, tensor in tensors.items():
        if name == "visual_projection.weight":
            yield f"{CLIP}proj", tensor.t()
            continue
        key = name
        for ours, theirs in _CLIP_PARTS.items():
            key = key.replace(ours, theirs)
        third = re.search(r"(q|k|v)_proj\.(weight|bias)$", key)
        if third is None:
            yield CLIP + key, tensor
        elif third[1] == "q":
            parts = [tensors[name.replace("q_proj", f"{one}_proj")] for one in "qkv"]
            yield CLIP + key.replace(f"q_proj.{third[2]}", f"in_proj_{third[2]}"), torch.cat(parts)


def companions(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the published files hold besides, in small: another encoder, halves of VAE and CLIP."""
    import torch

    first_stage = {
        key.replace(f"{ENCODER}encoder.", "first_stage_model.encoder."): torch.zeros_like(tensor)
        for key, tensor in found.items()
        if key.startswith(f"{ENCODER}encoder.")
    }
    return {
        **first_stage,
        f"{ENCODER}decoder.conv_in.weight": torch.zeros(2, 2),
        f"{ENCODER}post_quant_conv.weight": torch.zeros(2, 2),
        "conditioner.embedders.0.open_clip.model.token_embedding.weight": torch.zeros(3, 2),
        "conditioner.embedders.0.open_clip.model.logit_scale": torch.tensor(1.0),
    }


def tensors_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The tensors of a folder in the diffusers layout, by network."""
    from safetensors.torch import load_file

    return {part: load_file(folder / part / name) for part, name in FILES.items()}


def write(
    tensors: Mapping[str, Any],
    path: Path,
    *,
    dtype: Any = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A safetensors file of these tensors, in their own type or another."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    converted = {key: tensor.to(dtype).contiguous() for key, tensor in tensors.items()}
    save_file(converted, path, metadata)
    return path
