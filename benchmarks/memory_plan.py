"""What the fused engine would take under an ever smaller budget: predicted, without a GPU.

    python -m benchmarks.memory_plan [--frames 14,25] [--json FILE]

The svd-xt architecture at 1024x576 in fp16 with guidance. Every plan that some budget leads to, the fastest
first: bytes of living tensors at its peak, and what is brought to the GPU of the UNet's weights in each step.
Nothing is run; tests compare the predictions with counts of living tensors. Writes results/memory_plan.json.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.common import RESULTS, write_json
from benchmarks.options import count, run, several, target
from benchmarks.setting import SEED
from svd_local.engine.architecture import Architecture, full_size
from svd_local.engine.blueprint import Blueprint, unet_shape, vae_shape
from svd_local.engine.folded_sizes import folded_sizes
from svd_local.engine.fused_plan import FusedWay, fused_ladder
from svd_local.engine.memory import GPU_OVERHEAD
from svd_local.engine.sizes import of_architecture
from svd_local.engine.values import Sampling

ITEMSIZE = 2
STEPS = 25


def main() -> None:
    """Predict, print, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    frames = several(count)
    parser.add_argument(
        "--frames", type=frames, default=[14, 25], help="of the clips, separated by commas"
    )
    parser.add_argument("--json", type=target, default=RESULTS / "memory_plan.json")
    arguments = parser.parse_args()
    result = predict(arguments.frames)
    write_json(arguments.json, result)
    print(json.dumps(result, indent=2))


def predict(frames: list[int]) -> dict[str, Any]:
    """Of each length of a clip, its plans from the fastest to the smallest."""
    return {
        "benchmark": "memoryplan",
        "predicted": True,
        "what": "bytes of living tensors at the peak, worked out from shapes; nothing was run",
        "dtype": "float16",
        "width": full_size(25).width,
        "height": full_size(25).height,
        "steps": STEPS,
        "guidance_batch": 2,
        "overhead_bytes": GPU_OVERHEAD,
        "clips": [{"frames": count, "plans": plans(full_size(count))} for count in frames],
    }


def plans(architecture: Architecture) -> list[dict[str, Any]]:
    """Every plan that some budget leads to."""
    blueprint = Blueprint(
        of_architecture(architecture), unet_shape(architecture.unet), vae_shape(architecture.vae)
    )
    sampling = Sampling(
        seed=SEED,
        frames=architecture.frames,
        fps=7,
        steps=STEPS,
        schedule="karras",
        motion=127,
        noise=0.02,
        guidance=(1.0, 3.0),
        width=architecture.width,
        height=architecture.height,
        decode_chunk=architecture.frames,
    )
    ways = fused_ladder(
        blueprint, sampling, itemsize=ITEMSIZE, on_gpu=True, free=None, total=None, budget=None
    )
    sizes = folded_sizes(blueprint, ITEMSIZE)
    return [
        {
            "plan": way.plan,
            "peak_bytes": way.peak_bytes,
            "least_budget_bytes": way.peak_bytes + GPU_OVERHEAD,
            "weights_a_step_bytes": _brought(way, sizes.unet - sizes.unet_ends),
        }
        for way in ways
    ]


def _brought(way: FusedWay, network: int) -> int:
    """One by one, each half of guidance is a run that needs every weight."""
    if way.weights != "weights streamed":
        return 0
    return network * (2 if way.one_by_one else 1)


if __name__ == "__main__":
    run(main)
