"""Which attention kernel is the fastest for each shape that the engine runs: what the package's table is made of.

    python -m benchmarks.attention [--device cpu|cuda] [--checkpoint NAME] [--frames N] [--also-frames N] [--json FILE]

The shapes are read off the engine for clips of both lengths, laid out as it lays them. Every backend is timed by
itself, and torch's own choice beside them; a row names the fastest, or ``torch`` where none beats its choice by
more than the measurements spread. ``python -m benchmarks.attention_table`` puts the rows into the package.
"""

from __future__ import annotations

from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.ceilings import architecture, attention_inputs, attention_ms
from benchmarks.common import Result, arguments_for, finish
from benchmarks.setting import Setting
from benchmarks.shapes import Attention, shapes_of
from benchmarks.timing import milliseconds
from svd_local.engine.fused.attention import TORCHS_CHOICE, preferring

CLEARLY = 0.98
"""Of torch's own time: a backend below it is faster beyond the measurements' spread."""


def main() -> None:
    """Measure, print, and write the result."""
    parser = arguments_for(__doc__)
    parser.add_argument("--also-frames", type=int, help="another clip's length")
    parser.add_argument("--for-s", type=float, default=0.15, help="seconds for each backend")
    arguments = parser.parse_args()
    also = [] if arguments.also_frames is None else [arguments.also_frames]
    finish(measure(Setting.of(arguments), also, arguments.for_s), arguments.json)


@torch.inference_mode()
def measure(setting: Setting, also: list[int], for_s: float) -> Result:
    """A row for each shape of a step and a decode, at every length."""
    torch.manual_seed(0)
    found: dict[Attention, None] = {}
    for frames in (setting.frames, *also):
        shapes = shapes_of(architecture(setting), frames, setting.width, setting.height)
        for counted in shapes.values():
            found |= {shape: None for shape in counted if isinstance(shape, Attention)}
    rows = [row(shape, setting, for_s) for shape in found]
    return {**setting.describe("attention"), "rows": rows}


def row(shape: Attention, setting: Setting, for_s: float) -> Result:
    """A shape as the table has it, and every backend's milliseconds or refusal."""
    inputs = attention_inputs(shape, setting)
    query, key, value = inputs
    attend = partial(scaled_dot_product_attention, query, key, value)
    own = milliseconds(attend, setting.device, for_s=for_s)["median"]
    by_backend = attention_ms(shape, setting, inputs, for_s)
    taken = {name: ms for name, ms in by_backend.items() if isinstance(ms, float)}
    best = min(taken, key=lambda name: taken[name]) if taken else TORCHS_CHOICE
    if best != TORCHS_CHOICE and taken[best] > CLEARLY * own:
        best = TORCHS_CHOICE
    found: Result = {
        "dtype": str(inputs[0].dtype),
        "batch": shape.batch,
        "heads": shape.heads,
        "tokens": shape.tokens,
        "size": shape.size,
        "backend": best,
        "ms": {TORCHS_CHOICE: own, **by_backend},
    }
    if best != TORCHS_CHOICE:
        with preferring(best):  # as the engine will have it
            found["ms"]["preferred"] = milliseconds(attend, setting.device, for_s=for_s)["median"]
    return found


if __name__ == "__main__":
    main()
