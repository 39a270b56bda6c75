"""Counted work of one step and of one decode at full size, reference and fused, on any machine.

    python -m benchmarks.flops [--frames 14|25] [--json FILE]

The svd-xt architecture at 1024x576 with a guidance batch of two, on fake ``cuda`` tensors: every matrix
product, convolution and attention is counted, nothing is computed. Writes results/flops.json.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel

from benchmarks.options import count, run, target
from svd_local.engine.architecture import full_size
from svd_local.engine.fused.counting import count_flops, fake_cuda, fake_parameters
from svd_local.engine.fused.decoder import FusedDecoder
from svd_local.engine.fused.unet import FusedUNet
from svd_local.engine.fused.weights import tensors

RESULT = Path(__file__).resolve().parent / "results" / "flops.json"
WIDTH, HEIGHT = 1024, 576
DTYPE = torch.float16


def main() -> None:
    """Count, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=count, default=25)
    parser.add_argument("--json", type=target, default=RESULT)
    arguments = parser.parse_args()
    result = measure(arguments.frames)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(frames: int) -> dict[str, Any]:
    """Operations of a guided step and of a whole decode, and how many MiB of weights stay resident."""
    architecture = full_size(frames)
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(**architecture.unet).eval()
        vae = AutoencoderKLTemporalDecoder(**architecture.vae).eval()
    with fake_cuda():
        fake_parameters(unet, DTYPE)
        fake_parameters(vae, DTYPE)
        step, unet_mib = _step(unet, frames)
        return {
            "benchmark": "flops",
            "counted": "floating-point operations on fake cuda tensors",
            "frames": frames,
            "width": WIDTH,
            "height": HEIGHT,
            "guidance_batch": 2,
            "versions": {name: version(name) for name in ("torch", "diffusers")},
            "step": step,
            "decode": _decode(vae, frames),
            "unet_resident_mib": unet_mib,
        }


def _step(unet: UNetSpatioTemporalConditionModel, frames: int) -> tuple[Any, Any]:
    sample = _empty(2, frames, 8, HEIGHT // 8, WIDTH // 8)
    context, ids = _empty(2, 1, unet.config["cross_attention_dim"]), _empty(2, 3)
    timestep = torch.empty(1, device="cuda")
    fused = FusedUNet.from_reference(unet)
    clip = fused.prepare(
        image_latents=sample[:, 0, 4:],
        image_embeddings=context,
        added_time_ids=ids[:1],
        timesteps=timestep,
        num_frames=frames,
        guidance=_empty(frames),
    )
    latents = sample[:1, :, :4]
    counts = _compared(
        count_flops(lambda: unet(sample, timestep, context, ids)),
        count_flops(lambda: fused.step(latents, clip, 0)),
    )
    return counts, _compared(_mib(unet.parameters()), _mib(tensors(fused.weights)))


def _decode(vae: AutoencoderKLTemporalDecoder, frames: int) -> Any:
    latents = _empty(frames, 4, HEIGHT // 8, WIDTH // 8)
    fused = FusedDecoder.from_reference(vae)
    return _compared(
        count_flops(lambda: vae.decode(latents, num_frames=frames)),
        count_flops(lambda: fused.decode(latents)),
    )


def _empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=DTYPE, device="cuda")


def _mib(weights: Any) -> float:
    total: int = sum(weight.numel() * weight.itemsize for weight in weights)
    return round(total / 2**20, 1)


def _compared(reference: float, fused: float) -> dict[str, float]:
    return {"reference": reference, "fused": fused, "ratio": round(fused / reference, 4)}


if __name__ == "__main__":
    run(main)
