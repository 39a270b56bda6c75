"""Where the fused UNet saves time: a whole guided step, and each kind of part by itself.

    python -m benchmarks.ablation [--device cpu|cuda] [--pairs 9] [--threads N] [--json FILE]

Reference and fused run by turns on the same weights and inputs, and the ratio is taken within each
pair, so that other programs on the machine disturb both alike. On the CPU a narrow UNet in fp32 stands in
(widths 96, 160, 320, 320; 14 frames of 24x40 latents); on CUDA it is the full-size one in fp16, 25 frames
at 1024x576. All weights are random. Writes results/ablation_<device>.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor

from svd_local.engine.architecture import full_size
from svd_local.engine.fused.layout import as_images, as_tokens, from_images
from svd_local.engine.fused.network import StepConstants
from svd_local.engine.fused.ops import linear
from svd_local.engine.fused.passes import WHOLE
from svd_local.engine.fused.resample import upsample
from svd_local.engine.fused.resblock import joined_spatial, temporal_
from svd_local.engine.fused.transformer import transformer_
from svd_local.engine.fused.unet import ClipConstants, FusedUNet
from svd_local.engine.fused.weights import Upsample

RESULTS = Path(__file__).resolve().parent / "results"
NARROW = {"block_out_channels": (96, 160, 320, 320), "num_attention_heads": (2, 4, 5, 5)}
WARM_UP = 1


@dataclass(frozen=True)
class Setting:
    """What is measured: the model, and the size of a clip."""

    device: str
    dtype: torch.dtype
    frames: int
    height: int
    width: int
    unet: dict[str, Any]

    def random(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, dtype=self.dtype, device=self.device)


CPU = Setting("cpu", torch.float32, 14, 24, 40, NARROW)
CUDA = Setting("cuda", torch.float16, 25, 72, 128, dict(full_size(25).unet))


@dataclass(frozen=True)
class Pair:
    """The same result by the reference and by us."""

    name: str
    reference: Callable[[], object]
    fused: Callable[[], object]


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    result = measure(CPU if arguments.device == "cpu" else CUDA, arguments.pairs)
    path = arguments.json or RESULTS / f"ablation_{arguments.device}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


@torch.inference_mode()
def measure(setting: Setting, pairs: int) -> dict[str, Any]:
    """Seconds and ratios of the step and of each part."""
    with torch.device(setting.device):
        unet = UNetSpatioTemporalConditionModel(**setting.unet).eval().to(setting.dtype)
    compared = [compare(pair, pairs) for pair in (step(unet, setting), *parts(unet, setting))]
    gpu = torch.cuda.get_device_name() if setting.device == "cuda" else None
    return {
        "benchmark": "ablation",
        "device": setting.device,
        "gpu": gpu,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "dtype": str(setting.dtype).removeprefix("torch."),
        "synthetic": True,
        "frames": setting.frames,
        "width": setting.width * 8,
        "height": setting.height * 8,
        "guidance_batch": 2,
        "pairs": pairs,
        "versions": {name: version(name) for name in ("torch", "diffusers")},
        "step": compared[0],
        "parts": compared[1:],
    }


def compare(pair: Pair, pairs: int) -> dict[str, Any]:
    """Run both by turns; the ratio is reference / fused, above 1 where we are faster."""
    for _ in range(WARM_UP):
        seconds(pair.reference)
        seconds(pair.fused)
    taken = [(seconds(pair.reference), seconds(pair.fused)) for _ in range(pairs)]
    ratios = sorted(reference / fused for reference, fused in taken)
    return {
        "name": pair.name,
        "reference_s": round(statistics.median(reference for reference, _ in taken), 5),
        "fused_s": round(statistics.median(fused for _, fused in taken), 5),
        "speedup": {
            "min": round(ratios[0], 3),
            "median": round(statistics.median(ratios), 3),
            "max": round(ratios[-1], 3),
        },
    }


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of ``work``, everything queued on the GPU included."""
    synchronise()
    started = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - started


def processor() -> str:
    """What the processor calls itself, where that can be read."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def prepared(unet: UNetSpatioTemporalConditionModel, setting: Setting) -> Prepared:
    """One clip's inputs, as both sides want them."""
    image = setting.random(2, 4, setting.height, setting.width)
    context = setting.random(2, 1, unet.config["cross_attention_dim"])
    ids = setting.random(1, 3).abs()
    timesteps = torch.tensor([0.5], device=setting.device)
    guidance = torch.linspace(1, 3, setting.frames).to(setting.device, setting.dtype)
    fused = FusedUNet.from_reference(unet)
    clip = fused.prepare(
        image_latents=image,
        image_embeddings=context,
        added_time_ids=ids,
        timesteps=timesteps,
        num_frames=setting.frames,
        guidance=guidance,
    )
    return Prepared(fused, clip, image, context, ids.expand(2, 3), timesteps, guidance)


@dataclass(frozen=True)
class Prepared:
    """A clip's inputs and constants."""

    fused: FusedUNet
    clip: ClipConstants
    image: Tensor
    context: Tensor
    ids: Tensor
    timesteps: Tensor
    guidance: Tensor


def step(unet: UNetSpatioTemporalConditionModel, setting: Setting) -> Pair:
    """A guided step, as the pipeline makes it and as we do."""
    inputs = prepared(unet, setting)
    latents = setting.random(1, setting.frames, 4, setting.height, setting.width)
    images = inputs.image[:, None].repeat(1, setting.frames, 1, 1, 1)
    scale = inputs.guidance[None, :, None, None, None]

    def reference() -> Tensor:
        sample = torch.cat([torch.cat([latents] * 2), images], dim=2)
        prediction = unet(sample, inputs.timesteps, inputs.context, inputs.ids, return_dict=False)
        plain, guided = torch.chunk(prediction[0], 2)
        mixed: Tensor = plain + scale * (guided - plain)
        return mixed

    return Pair("step", reference, lambda: inputs.fused.step(latents, inputs.clip, 0))


def parts(unet: UNetSpatioTemporalConditionModel, setting: Setting) -> Iterator[Pair]:
    """Of each level one resblock, one transformer and its attentions, and one enlargement."""
    inputs = prepared(unet, setting)
    constants = inputs.clip.at(0)
    height, width = setting.height, setting.width
    for level, block in enumerate(unet.down_blocks):
        module, weights = block.resnets[-1], inputs.fused.weights.down[level].layers[-1]
        channels = module.spatial_res_block.conv2.out_channels
        x = setting.random(2, setting.frames, height, width, channels)
        yield _resblock(unet, setting, f"level {level}: resblock", module, weights[0], x, constants)
        if weights[1] is not None:
            yield from _attention(inputs, setting, level, block.attentions[-1], weights[1], x)
        height, width = (height + 1) // 2, (width + 1) // 2
    for index, block in enumerate(unet.up_blocks):
        folded = inputs.fused.weights.up[index].upsample
        if folded is not None:
            level = len(unet.up_blocks) - 1 - index
            shrink = 2**level
            small = (setting.height // shrink, setting.width // shrink)
            channels = block.upsamplers[0].channels
            x = setting.random(2, setting.frames, *small, channels)
            yield _enlargement(level, block.upsamplers[0], folded, x)


def _enlargement(level: int, module: Any, weights: Upsample, x: Tensor) -> Pair:
    images = as_images(x).contiguous()
    size = (2 * x.shape[2], 2 * x.shape[3])
    return Pair(
        f"level {level}: nearest x2 and convolution",
        lambda: module(images),
        lambda: upsample(x, weights, size, WHOLE),
    )


def _resblock(
    unet: UNetSpatioTemporalConditionModel,
    setting: Setting,
    name: str,
    module: Any,
    weights: Any,
    x: Tensor,
    constants: StepConstants,
) -> Pair:
    images = as_images(x).contiguous()
    embedding = setting.random(2 * setting.frames, unet.time_embedding.linear_2.out_features)
    indicator = torch.zeros(2, setting.frames, device=setting.device)
    spatial_bias, temporal_bias = constants.biases[weights.slot]

    def fused() -> Tensor:
        out = joined_spatial((x,), weights.spatial, spatial_bias, WHOLE)
        temporal_(as_tokens(out), weights.temporal, temporal_bias, WHOLE)
        return out

    return Pair(name, lambda: module(images, embedding, indicator), fused)


def _attention(
    inputs: Prepared, setting: Setting, level: int, module: Any, weights: Any, x: Tensor
) -> Iterator[Pair]:
    images = as_images(x).contiguous()
    context = inputs.context.repeat_interleave(setting.frames, dim=0)
    indicator = torch.zeros(2, setting.frames, device=setting.device)
    constants = inputs.clip.at(0).transformers[weights.slot]
    yield Pair(
        f"level {level}: transformer",
        lambda: module(images, context, indicator),
        # In place, on the same memory again and again: the values do not matter to the time.
        lambda: transformer_(x, weights, constants, WHOLE),
    )
    block = module.transformer_blocks[0]
    tokens = as_tokens(from_images(as_images(x), 2)).flatten(0, 1)
    yield Pair(
        f"level {level}: query, key and value",
        lambda: [layer(tokens) for layer in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v)],
        lambda: linear(tokens, weights.blocks[0][0].attention.qkv),
    )


if __name__ == "__main__":
    main()
