"""The shape of a checkpoint's networks, as far as it decides the fused engine's memory.

Read from configurations, without loading anything. The parts are listed in the order they run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.memory import Sizes
from svd_local.engine.sizes import sizes_of

_ATTENTION = "CrossAttn"


@dataclass(frozen=True, slots=True)
class Layer:
    """A resblock from ``channels`` and a skip's channels to ``out``, then ``depth`` transformer pairs.

    ``level`` says how often the map was halved before it.
    """

    channels: int
    skip: int
    out: int
    depth: int
    context: int
    level: int


@dataclass(frozen=True, slots=True)
class UNetShape:
    """Widths, layers and attention of each level of the UNet, from the finest."""

    in_channels: int
    widths: tuple[int, ...]
    layers: tuple[int, ...]
    down_depths: tuple[int, ...]
    """Transformer pairs in each layer of the way down; 0 where a level has no attention."""
    up_depths: tuple[int, ...]
    """The same on the way up, also from the finest level."""
    mid_depth: int
    contexts: tuple[int, ...]
    """Channels of the context token, by level."""
    time_inputs: tuple[int, int]
    """Channels of the sinusoids of the timestep, and of the clip's numbers."""

    @property
    def deepest(self) -> int:
        """Index of the coarsest level."""
        return len(self.widths) - 1

    @property
    def cache_depths(self) -> int:
        """How many results of the way down, beside conv_in's, features can be cached behind."""
        return sum(self.layers) + self.deepest

    def down(self) -> Iterator[tuple[Layer, ...]]:
        """The layers of each level on the way down."""
        before = self.widths[0]
        for level, width in enumerate(self.widths):
            depth, context = self.down_depths[level], self.contexts[level]
            sources = (before, *(width,) * (self.layers[level] - 1))
            yield tuple(Layer(source, 0, width, depth, context, level) for source in sources)
            before = width

    def middle(self) -> tuple[Layer, Layer]:
        """A layer with a transformer and one without."""
        width, level = self.widths[-1], self.deepest
        context = self.contexts[-1]
        return (
            Layer(width, 0, width, self.mid_depth, context, level),
            Layer(width, 0, width, 0, context, level),
        )

    def up(self) -> Iterator[tuple[Layer, ...]]:
        """The layers of each level on the way up, from the coarsest."""
        before = self.widths[-1]
        for level in reversed(range(len(self.widths))):
            width, finer = self.widths[level], self.widths[max(level - 1, 0)]
            count = self.layers[level] + 1
            sources = (before, *(width,) * (count - 1))
            skips = (*(width,) * (count - 1), finer)
            depth, context = self.up_depths[level], self.contexts[level]
            yield tuple(
                Layer(source, skip, width, depth, context, level)
                for source, skip in zip(sources, skips, strict=True)
            )
            before = width

    def all_layers(self) -> Iterator[Layer]:
        """Every layer, in order."""
        for level in self.down():
            yield from level
        yield from self.middle()
        for level in self.up():
            yield from level


@dataclass(frozen=True, slots=True)
class VaeShape:
    """Widths of the VAE's levels from the finest, and how many layers each of the encoder has."""

    latent_channels: int
    widths: tuple[int, ...]
    layers: int

    def decoder(self) -> Iterator[tuple[str, int, int]]:
        """The decoder's resblocks: what comes before (``attend``, ``enlarge`` or nothing), and the
        channels that come in and go out.
        """
        before = self.widths[-1]
        yield "", before, before
        if self.layers > 1:
            yield "attend", before, before
        for index, width in enumerate(reversed(self.widths)):
            for layer in range(self.layers + 1):
                what = "enlarge" if index and not layer else ""
                yield what, before, width
                before = width


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Everything of a checkpoint that the fused engine's memory follows from."""

    sizes: Sizes
    unet: UNetShape
    vae: VaeShape


def blueprint_of(checkpoint: Checkpoint) -> Blueprint:
    """Read a checkpoint's configurations.

    Raises:
        CheckpointBroken: the files are not whole.
    """
    sizes = sizes_of(checkpoint)
    checkpoint = checkpoint.base or checkpoint  # a distilled UNet is of its shapes
    made = checkpoint.architecture()
    if made is not None:
        return Blueprint(sizes, unet_shape(made.unet), vae_shape(made.vae))
    assert checkpoint.path is not None
    unet, vae = (
        json.loads((checkpoint.path / part / "config.json").read_text(encoding="utf-8"))
        for part in ("unet", "vae")
    )
    return Blueprint(sizes, unet_shape(unet), vae_shape(vae))


def unet_shape(config: Mapping[str, Any]) -> UNetShape:
    """From a UNet's configuration; what it leaves out is as diffusers has it."""
    widths = tuple(config["block_out_channels"])
    count = len(widths)
    depths = _per_level(config.get("transformer_layers_per_block", 1), count)
    usual = [True] * (count - 1) + [False]
    down = _attended(config.get("down_block_types"), usual)
    up = _attended(config.get("up_block_types"), usual[::-1])[::-1]
    return UNetShape(
        in_channels=config.get("in_channels", 8),
        widths=widths,
        layers=_per_level(config.get("layers_per_block", 2), count),
        down_depths=tuple(d if on else 0 for d, on in zip(depths, down, strict=True)),
        up_depths=tuple(d if on else 0 for d, on in zip(depths, up, strict=True)),
        mid_depth=depths[-1],
        contexts=_per_level(config.get("cross_attention_dim", 1024), count),
        time_inputs=(widths[0], config.get("projection_class_embeddings_input_dim", 768)),
    )


def vae_shape(config: Mapping[str, Any]) -> VaeShape:
    """From a VAE's configuration; what it leaves out is as the published checkpoints have it."""
    return VaeShape(
        latent_channels=config.get("latent_channels", 4),
        widths=tuple(config["block_out_channels"]),
        layers=config.get("layers_per_block", 2),
    )


def _per_level(value: Any, count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(value)


def _attended(names: Any, usual: list[bool]) -> list[bool]:
    return usual if names is None else [name.startswith(_ATTENTION) for name in names]
