"""Where the fused UNet saves time: a whole guided step, each kind of part, and each saving by itself.

    python -m benchmarks.ablation [--device cpu|cuda] [--pairs 9] [--rounds 5] [--threads N] [--json FILE]

Two sides run by turns on the same weights and inputs, and the ratio is taken within each pair, so that other
programs on the machine disturb both alike; on the CPU only the processor's time counts. Parts are compared with the reference's; a saving with the fused
step in which it alone is undone (`benchmarks.undone`), its work counted at full size beside. On the CPU a
narrow UNet in fp32 stands in (widths 96, 160, 320, 320; 14 frames of 24x40 latents); on CUDA it is the
full-size one in fp16, 25 frames at 1024x576. All weights are random. Writes results/ablation_<device>.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor

from benchmarks.common import RESULTS, gpu_name, processor, spread, versions, write_json
from benchmarks.common import seconds as elapsed
from benchmarks.options import count, count_or_none, run, target
from benchmarks.subject import CPU, CUDA, Size, Subject
from benchmarks.undone import SAVINGS, Saving
from svd_local.engine.fused.counting import count_flops, fake_cuda, fake_parameters
from svd_local.engine.fused.layout import as_images, as_tokens, from_images
from svd_local.engine.fused.network import StepConstants
from svd_local.engine.fused.ops import linear
from svd_local.engine.fused.passes import WHOLE
from svd_local.engine.fused.resample import upsample
from svd_local.engine.fused.resblock import joined_spatial, temporal_
from svd_local.engine.fused.transformer import transformer_
from svd_local.engine.fused.weights import Upsample

WARM_UP = 1


@dataclass(frozen=True)
class Pair:
    """The same result by the reference and by us."""

    name: str
    reference: Callable[[], object]
    fused: Callable[[], object]


def main() -> None:
    """Measure, print, and write the result."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    size = CPU if arguments.device == "cpu" else CUDA
    result = measure(size, arguments.pairs, arguments.rounds)
    result["shared"] = arguments.shared
    write_json(arguments.json or RESULTS / f"ablation_{arguments.device}.json", result)
    print(json.dumps(result, indent=2))


def parse(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pairs", type=count, default=9, help="of the step and of each part")
    parser.add_argument(
        "--rounds", type=count_or_none, default=5, help="of each saving; 0 leaves savings out"
    )
    parser.add_argument("--threads", type=count, default=torch.get_num_threads())
    parser.add_argument("--shared", action="store_true", help="say that the machine had other work")
    parser.add_argument("--json", type=target)
    return parser.parse_args(given)


@torch.inference_mode()
def measure(size: Size, pairs: int, rounds: int) -> dict[str, Any]:
    """Seconds and ratios of the step, of each part, and of the step with each saving undone."""
    chosen = [saving for saving in SAVINGS if size.device in saving.devices] if rounds else []
    spared = work(chosen)
    with torch.device(size.device):
        unet = UNetSpatioTemporalConditionModel(**size.unet).eval().to(size.dtype)
    subject = Subject.of(unet, size)
    compared = [compare(pair, pairs, size.device) for pair in (step(subject), *parts(subject))]
    return {
        "benchmark": "ablation",
        "device": size.device,
        "gpu": gpu_name(size.device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "dtype": str(size.dtype).removeprefix("torch."),
        "synthetic": True,
        "frames": size.frames,
        "width": size.width * 8,
        "height": size.height * 8,
        "guidance_batch": 2,
        "timed": "processor time" if size.device == "cpu" else "by the clock",
        "pairs": pairs,
        "rounds": rounds,
        "versions": versions(),
        "step": compared[0],
        "parts": compared[1:],
        "savings": with_work(undone(subject, chosen, rounds), spared),
    }


def seconds(work: Callable[[], object], device: str) -> float:
    """On a GPU by the clock; on the CPU those that this process computed, whatever else ran meanwhile."""
    if device != "cpu":
        return elapsed(work, device)
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(pair: Pair, pairs: int, device: str) -> dict[str, Any]:
    """Run both by turns; the ratio is reference / fused, above 1 where we are faster."""
    for _ in range(WARM_UP):
        seconds(pair.reference, device)
        seconds(pair.fused, device)
    taken = [(seconds(pair.reference, device), seconds(pair.fused, device)) for _ in range(pairs)]
    return {
        "name": pair.name,
        "reference_s": round(statistics.median(reference for reference, _ in taken), 5),
        "fused_s": round(statistics.median(fused for _, fused in taken), 5),
        "speedup": spread([reference / fused for reference, fused in taken], 3),
    }


def undone(subject: Subject, savings: list[Saving], rounds: int) -> list[dict[str, Any]]:
    """How many times as long a step takes without each saving, against the whole steps around it."""
    device = subject.size.device
    ratios: dict[str, list[float]] = {saving.name: [] for saving in savings}
    # The whole step is warm by now; what is undone has kernels of its own to choose on a GPU.
    warm_up = WARM_UP if device == "cuda" else 0
    for number in range(warm_up + rounds):
        before = seconds(subject.step, device)
        for saving in savings:
            with saving.undo(subject):
                without = seconds(subject.step, device)
            after = seconds(subject.step, device)
            if number >= warm_up:
                ratios[saving.name].append(without / statistics.mean((before, after)))
            before = after
    return [{"name": name, "times_as_long": spread(found, 3)} for name, found in ratios.items()]


def work(savings: list[Saving], size: Size = CUDA) -> dict[str, int]:
    """Operations that each saving spares a step, counted on fake tensors."""
    if not savings:
        return {}
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(**size.unet).eval()
    with fake_cuda():
        fake_parameters(unet, size.dtype)
        subject = Subject.of(unet, size)
        whole = count_flops(subject.step)
        spared = {}
        for saving in savings:
            with saving.undo(subject):
                spared[saving.name] = count_flops(subject.step) - whole
    return spared


def with_work(found: list[dict[str, Any]], spared: dict[str, int]) -> list[dict[str, Any]]:
    """The measured savings with the counted ones beside, those that spare most time first."""
    both = [{**one, "full_size_flop": spared[one["name"]]} for one in found]
    return sorted(both, key=lambda one: -one["times_as_long"]["median"])


def step(subject: Subject) -> Pair:
    """A guided step, as the pipeline makes it and as we do."""
    return Pair("step", subject.reference_step, subject.step)


def parts(subject: Subject) -> Iterator[Pair]:
    """Of each level one resblock, one transformer and its attentions, and one enlargement."""
    unet: Any = subject.unet
    size, constants = subject.size, subject.clip.at(0)
    height, width = size.height, size.width
    for level, block in enumerate(unet.down_blocks):
        module, weights = block.resnets[-1], subject.fused.weights.down[level].layers[-1]
        channels = module.spatial_res_block.conv2.out_channels
        x = size.random(2, size.frames, height, width, channels)
        yield _resblock(unet, size, f"level {level}: resblock", module, weights[0], x, constants)
        if weights[1] is not None:
            yield from _attention(subject, level, block.attentions[-1], weights[1], x)
        height, width = (height + 1) // 2, (width + 1) // 2
    for index, block in enumerate(unet.up_blocks):
        folded = subject.fused.weights.up[index].upsample
        if folded is not None:
            level = len(unet.up_blocks) - 1 - index
            shrink = 2**level
            small = (size.height // shrink, size.width // shrink)
            channels = block.upsamplers[0].channels
            x = size.random(2, size.frames, *small, channels)
            yield _enlargement(level, block.upsamplers[0], folded, x)


def _enlargement(level: int, module: Any, weights: Upsample, x: Tensor) -> Pair:
    images = as_images(x).contiguous()
    enlarged = (2 * x.shape[2], 2 * x.shape[3])
    return Pair(
        f"level {level}: nearest x2 and convolution",
        lambda: module(images),
        lambda: upsample(x, weights, enlarged, WHOLE),
    )


def _resblock(
    unet: UNetSpatioTemporalConditionModel,
    size: Size,
    name: str,
    module: Any,
    weights: Any,
    x: Tensor,
    constants: StepConstants,
) -> Pair:
    images = as_images(x).contiguous()
    embedding = size.random(2 * size.frames, unet.time_embedding.linear_2.out_features)
    indicator = torch.zeros(2, size.frames, device=size.device)
    spatial_bias, temporal_bias = constants.biases[weights.slot]

    def fused() -> Tensor:
        out = joined_spatial((x,), weights.spatial, spatial_bias, WHOLE)
        temporal_(as_tokens(out), weights.temporal, temporal_bias, WHOLE)
        return out

    return Pair(name, lambda: module(images, embedding, indicator), fused)


def _attention(
    subject: Subject, level: int, module: Any, weights: Any, x: Tensor
) -> Iterator[Pair]:
    size = subject.size
    images = as_images(x).contiguous()
    context = subject.context.repeat_interleave(size.frames, dim=0)
    indicator = torch.zeros(2, size.frames, device=size.device)
    constants = subject.clip.at(0).transformers[weights.slot]
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
    run(main)
