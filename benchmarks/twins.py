"""Each kernel of ours against its plain twin: right, and faster? At the shapes the engine runs.

    python -m benchmarks.twins [--device cpu|cuda] [--checkpoint NAME] [--frames N] [--for-s S] [--json FILE]

First every configuration of every kernel is proven at odd sizes in both half precisions: no further from
double precision than 1.05 times its twin (`engine.fused.kernels.proof`); one that is not is tried no more. Then both are timed at every
shape that a step and a decode have, read off the engine (`benchmarks.shapes`), in the precision of the
clip, and their results compared there once more. ``widths`` adds a step and a decode up by kernel and
width, each shape as often as it occurs (a decode shared among the 25 steps it follows), for the
configuration that is fastest in all: `benchmarks.kernel_table` makes the package's table of these.
Without a GPU, Triton's interpreter stands in where TRITON_INTERPRET=1 is set and --dtype is float16; its
times mean nothing.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.ceilings import architecture
from benchmarks.common import Result, arguments_for, finish
from benchmarks.setting import Setting
from benchmarks.shapes import Ours, shapes_of
from benchmarks.timing import milliseconds
from svd_local.engine.fused.kernels import proof
from svd_local.engine.fused.kernels.choice import ALL, KERNELS, NONE, Config, Kernel, using
from svd_local.engine.fused.kernels.proof import ALLOWED_RATIO, Trial

ALLOWED_DISTANCE = {torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Relative L2 between kernel and twin, both of half precision, at full size."""
STEPS = 25
WORTH = 0.98
"""A kernel wins that takes less than this share of its twin's time: less is noise."""
MODULES: dict[Kernel, str] = {
    "group-norm": "group_norm",
    "geglu": "geglu",
    "geglu-product": "geglu_product",
    "temporal-attention": "temporal_attention",
    "add-layer-norm": "residual",
}
_SEEDS = 3


def main() -> None:
    """Measure, print, and write the result."""
    parser = arguments_for(__doc__)
    parser.add_argument("--for-s", type=float, default=0.06, help="seconds for each timing")
    arguments = parser.parse_args()
    finish(measure(Setting.of(arguments), arguments.for_s), arguments.json)


@torch.inference_mode()
def measure(setting: Setting, for_s: float) -> Result:
    """Proofs, times by shape, and what they come to by width."""
    refused = why_not(setting)
    trials = trials_of(setting)
    # Interpreted, a program takes milliseconds: there the usual configuration has to do.
    most = None if setting.device.startswith("cuda") else 1
    configs = {
        kernel: configurations(kernel)[:most] if refused is None else () for kernel in KERNELS
    }
    proofs = [] if refused else list(proofs_of(trials, configs, setting))
    wrong = [(one["kernel"], one["config"]) for one in proofs if not one["passed"]]
    right = {
        kernel: tuple(config for config in several if (kernel, dict(config)) not in wrong)
        for kernel, several in configs.items()
    }
    timed = [
        time_trial(trial, part, count, right[trial.kernel], setting, for_s)
        for (trial, part), count in trials.items()
    ]
    widths = summed(timed)
    return {
        **setting.describe("twins"),
        "refused": refused,
        "allowed_ratio": ALLOWED_RATIO,
        "passed": refused is None and not wrong and all(one["agrees"] for one in timed),
        "saved_ms_a_step": saved(widths),
        "widths": widths,
        "trials": timed,
        "proofs": proofs,
    }


def why_not(setting: Setting) -> str | None:
    """Why no kernel can run here; None where they can."""
    if setting.precision.itemsize != 2:
        return "kernels take half precision: write --dtype float16"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if setting.device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        return "on the CPU only Triton's interpreter runs kernels: set TRITON_INTERPRET=1"
    return None


def configurations(kernel: Kernel) -> tuple[Config, ...]:
    """Those worth trying, the usual one first."""
    module: Any = import_module(f"svd_local.engine.fused.kernels.{MODULES[kernel]}")
    found: tuple[Config, ...] = module.CONFIGS
    return found


def trials_of(setting: Setting) -> Mapping[tuple[Trial, str], int]:
    """What each kernel would do in a step and in a decode, and how often."""
    shapes = shapes_of(architecture(setting), setting.frames, setting.width, setting.height, ALL)
    found: dict[tuple[str, str, tuple[Any, ...]], tuple[Trial, int]] = {}
    for part, counted in shapes.items():
        for operation, count in counted.items():
            for trial, times in trials_for(operation) if isinstance(operation, Ours) else ():
                key = (part, trial.kernel, trial.shapes)
                before = found[key][1] if key in found else 0
                found[key] = (trial, before + count * times)
    return {(trial, part): count for (part, _, _), (trial, count) in found.items()}


def trials_for(operation: Ours) -> Iterator[tuple[Trial, int]]:
    """The kernel's own and how often it makes up the operation; of the two for GEGLU either's.

    Torch attends in one batch item after the other, so one is compared with one.
    """
    first, *others = operation.sizes
    if operation.name == "group_norm":
        items, rows, width = first
        biases = others[2][0] if len(others) > 2 else 0
        yield proof.group_norm(items, rows, width, biases=biases), 1
    elif operation.name == "geglu_product":
        rows, width = first
        yield proof.geglu("geglu-product", rows, width), 1
        yield proof.geglu("geglu", rows, width), 1
    elif operation.name == "temporal_attention":
        items, frames, positions, columns = first
        width = columns // 3
        size = 64 if width % 64 == 0 else 32
        yield proof.attention(1, frames, positions, width, size), items
    elif operation.name == "add_layer_norm_":
        items, rows, width = first
        yield proof.residual(items, rows, width, biases=others[1][0]), 1


def proofs_of(
    trials: Mapping[tuple[Trial, str], int],
    configs: Mapping[Kernel, tuple[Config, ...]],
    setting: Setting,
) -> Iterator[Result]:
    """Every configuration at every width, at sizes that fill no tile."""
    for kernel, width in sorted({(trial.kernel, trial.width) for trial, _ in trials}):
        for config in configs[kernel]:
            for dtype in (torch.float16, torch.bfloat16):
                if setting.device == "cpu" and dtype == torch.bfloat16:
                    continue  # the interpreter cuts bfloat16 off instead of rounding it
                yield proved(odd(kernel, width), config, dtype, setting.device)


def odd(kernel: Kernel, width: int) -> Trial:
    """A size of which no block is a divisor."""
    if kernel == "group-norm":
        return proof.group_norm(2, 1037, width, biases=2)
    if kernel == "temporal-attention":
        return proof.attention(2, 23, 37, width, 64 if width % 64 == 0 else 32)
    if kernel == "add-layer-norm":
        return proof.residual(2, 133, width, biases=2)
    return proof.geglu(kernel, 261, width)


def proved(trial: Trial, config: Config, dtype: torch.dtype, device: str) -> Result:
    """The worst of a few draws."""
    result: Result = {
        "kernel": trial.kernel,
        "width": trial.width,
        "config": dict(config),
        "dtype": str(dtype).removeprefix("torch."),
    }
    try:
        errors = [
            trial.errors(trial.own(config), trial.drawn(device, dtype, seed))
            for seed in range(_SEEDS if device.startswith("cuda") else 1)
        ]
    except Exception as error:  # noqa: BLE001 - a configuration too large for this card costs no other
        # It cannot be taken, and so it cannot be wrong.
        return {**result, "refused": _first_line(error), "passed": True}
    ours, twins = max(errors, key=lambda pair: pair[0] / pair[1])
    return {
        **result,
        "kernel_error": ours,
        "twin_error": twins,
        "ratio": round(ours / twins, 4),
        "passed": ours <= ALLOWED_RATIO * twins,
    }


def time_trial(
    trial: Trial,
    part: str,
    count: int,
    configs: tuple[Config, ...],
    setting: Setting,
    for_s: float,
) -> Result:
    """Milliseconds of the twin, and of each configuration; how far apart their results are."""
    dtype = setting.precision.of_torch()
    result: Result = {
        "kernel": trial.kernel,
        "width": trial.width,
        "part": part,
        "count": count,
        "shapes": [list(shape) for shape in trial.shapes],
        "bytes": trial.elements * dtype.itemsize,
    }
    try:
        inputs = trial.drawn(setting.device, dtype)
        with using(NONE):
            twin_ms = milliseconds(lambda: trial.work(*inputs), setting.device, for_s=for_s)
    except RuntimeError as error:  # one that does not fit must not cost all others
        return {
            **result,
            "twin_ms": None,
            "refused": _first_line(error),
            "configs": [],
            "agrees": True,
        }
    tried = [_timed(trial, config, inputs, setting, for_s) for config in configs]
    known = [one["ms"]["median"] for one in tried if one["ms"] is not None]
    far = _apart(trial, tried, setting, dtype)
    return {
        **result,
        "twin_ms": twin_ms,
        "configs": tried,
        "gb_per_s": round(result["bytes"] / min(known) / 1e6, 1) if known else None,
        "times_faster": round(twin_ms["median"] / min(known), 3) if known else None,
        "distance": far,
        "agrees": far is None or far <= ALLOWED_DISTANCE.get(dtype, 1e-4),
    }


def _timed(
    trial: Trial, config: Config, inputs: list[torch.Tensor], setting: Setting, for_s: float
) -> Result:
    try:
        with using(trial.own(config)):
            ms = milliseconds(lambda: trial.work(*inputs), setting.device, for_s=for_s)
    except Exception as error:  # noqa: BLE001 - as above
        return {"config": dict(config), "ms": None, "refused": _first_line(error)}
    return {"config": dict(config), "ms": ms}


def _apart(trial: Trial, tried: list[Result], setting: Setting, dtype: torch.dtype) -> float | None:
    """Between the fastest configuration's result and the twin's, from fresh numbers at this size."""
    known = [one for one in tried if one["ms"] is not None]
    if not known or dtype.itemsize != 2:
        return None
    best = min(known, key=lambda one: one["ms"]["median"])
    inputs = trial.drawn(setting.device, dtype, seed=1)
    ours, twins = trial.by(trial.own(best["config"]), inputs), trial.by(NONE, inputs)
    far = [
        float(torch.linalg.vector_norm(one - other, dtype=torch.float32))
        / float(torch.linalg.vector_norm(other, dtype=torch.float32))
        for one, other in zip(ours, twins, strict=True)
    ]
    return max(value if value == value else float("inf") for value in far)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def summed(timed: list[Result]) -> dict[str, dict[str, Result]]:
    """By kernel and width: the twin's milliseconds in a step, and the best configuration's."""
    twins: Counter[tuple[str, int]] = Counter()
    ours: defaultdict[tuple[str, int], defaultdict[str, list[float]]]
    ours = defaultdict(lambda: defaultdict(list))
    configs: dict[str, Config] = {}
    shapes: Counter[tuple[str, int]] = Counter()
    for one in timed:
        if one["twin_ms"] is None:
            continue
        times = one["count"] / (1 if one["part"] == "step" else STEPS)
        key = (one["kernel"], one["width"])
        twins[key] += one["twin_ms"]["median"] * times
        shapes[key] += 1
        for tried in one["configs"]:
            if tried["ms"] is not None:
                name = str(sorted(tried["config"].items()))
                configs[name] = tried["config"]
                ours[key][name].append(tried["ms"]["median"] * times)
    found: dict[str, dict[str, Result]] = {}
    for (kernel, width), twin_ms in twins.items():
        # One that was refused at some shape could not be relied on.
        whole = {
            name: sum(ms)
            for name, ms in ours[kernel, width].items()
            if len(ms) == shapes[kernel, width]
        }
        best = min(whole, key=lambda name: whole[name]) if whole else None
        found.setdefault(kernel, {})[str(width)] = {
            "twin_ms": round(twin_ms, 5),
            "kernel_ms": None if best is None else round(whole[best], 5),
            "config": None if best is None else dict(configs[best]),
            "wins": best is not None and whole[best] < WORTH * twin_ms,
        }
    return found


def saved(widths: dict[str, dict[str, Result]]) -> dict[str, float]:
    """Milliseconds of a step that each kernel saves where it wins. Both GEGLUs stand for the same."""
    return {
        kernel: round(
            sum(one["twin_ms"] - one["kernel_ms"] for one in by_width.values() if one["wins"]), 3
        )
        for kernel, by_width in widths.items()
    }


if __name__ == "__main__":
    main()
