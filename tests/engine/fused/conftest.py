"""Random models of every shape the classes allow, with every weight random, and their inputs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class UNetCase:
    """A reference UNet and one set of arguments for its forward."""

    unet: Any
    sample: Any
    timestep: Any
    context: Any
    time_ids: Any

    def reference(self) -> Any:
        import torch

        with torch.inference_mode():
            return self.unet(self.sample, self.timestep, self.context, self.time_ids).sample


def randomise(model: Any, seed: int) -> None:
    """Give every parameter a value that would show if it were left out."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            if weight.dim() > 1:
                noise /= weight[0].numel() ** 0.5
            elif name.endswith("weight"):
                noise = 1 + 0.3 * noise
            elif not name.endswith("mix_factor"):
                noise *= 0.3
            weight.copy_(noise)


def _unet_config(pick: random.Random, narrowest: int, levels: int | None) -> dict[str, Any]:
    widths = [width for width in (32, 64, 64, 96) if width >= narrowest]
    levels = levels or pick.choice([1, 2, 2, 3, 4])
    cross = [pick.random() < 0.6 for _ in range(levels)]
    up_cross = [pick.random() < 0.6 for _ in range(levels)]
    return {
        "in_channels": pick.choice([8, 8, 6, 9]),
        "out_channels": pick.choice([4, 4, 3]),
        "down_block_types": tuple(f"{'CrossAttn' * on}DownBlockSpatioTemporal" for on in cross),
        "up_block_types": tuple(f"{'CrossAttn' * on}UpBlockSpatioTemporal" for on in up_cross),
        "block_out_channels": tuple(pick.choice(widths) for _ in range(levels)),
        "num_attention_heads": tuple(pick.choice([1, 2, 4, 8]) for _ in range(levels)),
        "layers_per_block": pick.choice([1, 2, tuple(pick.choice([1, 2]) for _ in range(levels))]),
        "transformer_layers_per_block": pick.choice([1, 1, 2]),
        "cross_attention_dim": pick.choice([8, 24]),
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
    }


@pytest.fixture
def unet_case() -> Callable[..., UNetCase]:
    """A random case by seed, in double precision, ``smallest`` latent pixels high and wide.

    Small maps get at least 64 channels: a group norm over a single number amplifies rounding a
    thousandfold, the reference's as much as ours, so nothing could be compared.
    """

    def make(
        seed: int,
        *,
        smallest: int = 1,
        levels: int | None = None,
        frames: int | None = None,
        **changes: Any,
    ) -> UNetCase:
        import torch
        from diffusers import UNetSpatioTemporalConditionModel

        pick = random.Random(seed)
        batch, frames = pick.choice([1, 2]), frames or pick.randint(2, 25)
        height, width = (pick.randint(smallest, smallest + 8) for _ in range(2))
        config = _unet_config(pick, 32 if smallest >= 9 else 64, levels) | changes
        unet = UNetSpatioTemporalConditionModel(**config).double().eval()
        randomise(unet, seed)
        generator = torch.Generator().manual_seed(seed + 1)

        def noise(*shape: int) -> Any:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        ids = noise(1, 3).abs().expand(batch, 3) if pick.random() < 0.7 else noise(batch, 3).abs()
        return UNetCase(
            unet=unet,
            sample=noise(batch, frames, config["in_channels"], height, width),
            timestep=noise(1)[0],
            context=noise(batch, 1, config["cross_attention_dim"]),
            time_ids=ids,
        )

    return make


@pytest.fixture
def distance() -> Callable[[Any, Any], float]:
    """Relative L2 distance of the first from the second, in double precision."""

    def measure(found: Any, wanted: Any) -> float:
        assert found.shape == wanted.shape
        found, wanted = found.double(), wanted.double()
        return float((found - wanted).norm() / wanted.norm())

    return measure


@dataclass(frozen=True)
class DecoderCase:
    """A reference VAE and latents (frames, channels, h, w) for its decoder."""

    vae: Any
    latents: Any
    frames: int

    def reference(self) -> Any:
        import torch

        with torch.inference_mode():
            return self.vae.decode(self.latents, num_frames=self.frames).sample


@pytest.fixture
def decoder_case() -> Callable[..., DecoderCase]:
    """A random case by seed, in double precision; every map is at least 2x2."""

    def make(
        seed: int,
        *,
        frames: int | None = None,
        levels: int | None = None,
        layers: int | None = None,
    ) -> DecoderCase:
        import torch
        from diffusers import AutoencoderKLTemporalDecoder

        pick = random.Random(seed)
        levels = levels or pick.choice([1, 2, 3])
        frames = frames or pick.randint(1, 25)
        channels = pick.choice([4, 4, 3])
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=tuple(pick.choice([32, 64]) for _ in range(levels)),
            down_block_types=("DownEncoderBlock2D",) * levels,
            layers_per_block=layers or pick.choice([1, 1, 2, 3]),
            latent_channels=channels,
        )
        vae = vae.double().eval()
        randomise(vae, seed)
        size = pick.randint(2, 5), pick.randint(2, 5)
        generator = torch.Generator().manual_seed(seed + 1)
        latents = torch.randn(frames, channels, *size, generator=generator, dtype=torch.float64)
        return DecoderCase(vae, latents, frames)

    return make
