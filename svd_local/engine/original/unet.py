"""Every weight of the UNet: ``sgm``'s ``VideoUNet`` and diffusers' ``UNetSpatioTemporalConditionModel``.

Sources: Stability-AI/generative-models, ``sgm/modules/diffusionmodules/video_model.py`` and
``sgm/modules/video_attention.py``. The original numbers its blocks straight through, and a
downsampling is a block of its own; diffusers counts levels, and layers within them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from svd_local.engine.original.weights import Weight, affine, conv, linear, norm, within

PREFIX = "model.diffusion_model"


def unet_weights(config: Mapping[str, Any]) -> Iterator[Weight]:
    """The weights of the UNet of ``config`` (diffusers' words), in the order they run."""
    for weight in _unet(config):
        yield Weight(weight.name, weight.shape, f"{PREFIX}.{weight.source}", weight.form)


def _unet(config: Mapping[str, Any]) -> Iterator[Weight]:
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    context = config["cross_attention_dim"]
    attends = [kind.startswith("CrossAttn") for kind in config["down_block_types"]]
    embedding = 4 * widths[0]
    numbers = config["projection_class_embeddings_input_dim"]

    yield from conv("conv_in", "input_blocks.0.0", config["in_channels"], widths[0])
    yield from _mlp("time_embedding", "time_embed", widths[0], embedding, embedding)
    yield from _mlp("add_embedding", "label_emb.0", numbers, embedding, embedding)

    skips, before, block = [widths[0]], widths[0], 1
    for level, width in enumerate(widths):
        name = f"down_blocks.{level}"
        for layer in range(layers):
            place = f"input_blocks.{block}"
            yield from _resblock(f"{name}.resnets.{layer}", f"{place}.0", before, width, embedding)
            if attends[level]:
                attention = f"{name}.attentions.{layer}"
                yield from _transformer(attention, f"{place}.1", width, context)
            skips.append(width)
            before, block = width, block + 1
        if level < len(widths) - 1:
            place = f"input_blocks.{block}.0.op"
            yield from conv(f"{name}.downsamplers.0.conv", place, width, width)
            skips.append(width)
            block += 1

    for layer, place in enumerate(("middle_block.0", "middle_block.2")):
        yield from _resblock(f"mid_block.resnets.{layer}", place, before, before, embedding)
    yield from _transformer("mid_block.attentions.0", "middle_block.1", before, context)

    block = 0
    for index, level in enumerate(reversed(range(len(widths)))):
        name, width = f"up_blocks.{index}", widths[level]
        for layer in range(layers + 1):
            place, joined = f"output_blocks.{block}", before + skips.pop()
            yield from _resblock(f"{name}.resnets.{layer}", f"{place}.0", joined, width, embedding)
            if attends[level]:
                attention = f"{name}.attentions.{layer}"
                yield from _transformer(attention, f"{place}.1", width, context)
            before, block = width, block + 1
        if level > 0:  # at the end of the level's last block
            last = f"output_blocks.{block - 1}.{2 if attends[level] else 1}.conv"
            yield from conv(f"{name}.upsamplers.0.conv", last, width, width)

    yield from norm("conv_norm_out", "out.0", widths[0])
    yield from conv("conv_out", "out.2", widths[0], config["out_channels"])


def _mlp(name: str, source: str, channels: int, inner: int, out: int) -> Iterator[Weight]:
    """Linear, SiLU, linear."""
    yield from linear(f"{name}.linear_1", f"{source}.0", channels, inner)
    yield from linear(f"{name}.linear_2", f"{source}.2", inner, out)


def _resblock(name: str, source: str, channels: int, out: int, embedding: int) -> Iterator[Weight]:
    """A spatial residual, the temporal one after it, and how much counts of which."""
    spatial, temporal = f"{name}.spatial_res_block", f"{name}.temporal_res_block"
    yield from _residual(spatial, source, channels, out, embedding, (3, 3))
    if channels != out:
        yield from conv(
            f"{spatial}.conv_shortcut", f"{source}.skip_connection", channels, out, side=1
        )
    yield from _residual(temporal, f"{source}.time_stack", out, out, embedding, (3, 1, 1))
    yield _mix_factor(name, source)


def _residual(
    name: str, source: str, channels: int, out: int, embedding: int, kernel: tuple[int, ...]
) -> Iterator[Weight]:
    yield from norm(f"{name}.norm1", f"{source}.in_layers.0", channels)
    yield from affine(f"{name}.conv1", f"{source}.in_layers.2", out, channels, *kernel)
    yield from linear(f"{name}.time_emb_proj", f"{source}.emb_layers.1", embedding, out)
    yield from norm(f"{name}.norm2", f"{source}.out_layers.0", out)
    yield from affine(f"{name}.conv2", f"{source}.out_layers.3", out, out, *kernel)


def _mix_factor(name: str, source: str) -> Weight:
    return Weight(f"{name}.time_mixer.mix_factor", (1,), f"{source}.time_mixer.mix_factor")


def _transformer(name: str, source: str, width: int, context: int) -> Iterator[Weight]:
    """A block over positions and one over frames, whose inner names are the same on both sides."""
    yield from norm(f"{name}.norm", f"{source}.norm", width)
    yield from linear(f"{name}.proj_in", f"{source}.proj_in", width, width)
    places = f"{name}.time_pos_embed"
    yield from _mlp(places, f"{source}.time_pos_embed", width, 4 * width, width)
    block = tuple(_block(width, context))
    yield from within(f"{name}.transformer_blocks.0", f"{source}.transformer_blocks.0", block)
    temporal = (
        *norm("norm_in", "norm_in", width),
        *_feed_forward("ff_in", width),
        *block,
    )
    yield from within(f"{name}.temporal_transformer_blocks.0", f"{source}.time_stack.0", temporal)
    yield _mix_factor(name, source)
    yield from linear(f"{name}.proj_out", f"{source}.proj_out", width, width)


def _block(width: int, context: int) -> Iterator[Weight]:
    """Self-attention, cross-attention and the feed-forward, each after its norm."""
    for part in ("norm1", "norm2", "norm3"):
        yield from norm(part, part, width)
    for part, channels in (("attn1", width), ("attn2", context)):
        for projection, inputs in (("to_q", width), ("to_k", channels), ("to_v", channels)):
            name = f"{part}.{projection}.weight"
            yield Weight(name, (width, inputs), name)
        yield from linear(f"{part}.to_out.0", f"{part}.to_out.0", width, width)
    yield from _feed_forward("ff", width)


def _feed_forward(name: str, width: int) -> Iterator[Weight]:
    """A gated feed-forward: the first linear gives both what is gated and the gate."""
    yield from linear(f"{name}.net.0.proj", f"{name}.net.0.proj", width, 8 * width)
    yield from linear(f"{name}.net.2", f"{name}.net.2", 4 * width, width)
