"""What this device can do at most: copies, a large product, and every shape the fused engine runs.

    python -m benchmarks.ceilings [--device cpu|cuda] [--checkpoint NAME] [--frames N] [--json FILE]

The shapes are read off the engine (`benchmarks.shapes`) and run through the library's own kernels on
random numbers. ``library_ms`` adds them up by how often a step or a decode runs them: what the engine
would take if everything between them cost nothing. Attention is timed with every backend torch has,
on tensors laid out as the engine lays them; one that refuses says why.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.common import Result, arguments_for, finish
from benchmarks.options import run, seconds
from benchmarks.setting import Setting
from benchmarks.shapes import Attention, Convolution, Operation, Ours, Product, as_json, shapes_of
from benchmarks.timing import milliseconds
from svd_local.engine.architecture import Architecture, full_size, tiny

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
MOST_SCORES = 2**30
"""Elements of a table of scores above which the backend that writes it out is not tried."""
FP8_DEPTH = 640
"""The least inner size at which a product in fp8 is tried."""


def main() -> None:
    """Measure, print, and write the result."""
    parser = arguments_for(__doc__)
    parser.add_argument("--for-s", type=seconds, default=0.15, help="seconds for each operation")
    arguments = parser.parse_args()
    finish(measure(Setting.of(arguments), arguments.for_s), arguments.json)


@torch.inference_mode()
def measure(setting: Setting, for_s: float) -> Result:
    """Copies, products, and the engine's own shapes."""
    torch.manual_seed(0)
    big = setting.device.startswith("cuda")
    ceilings = {
        "copy": copies(setting, 2**31 if big else 2**24),
        "product": products(setting, 8192 if big else 256),
    }
    operations: list[Result] = []
    library_ms: dict[str, float] = {}
    shapes = shapes_of(architecture(setting), setting.frames, setting.width, setting.height)
    for part, counted in shapes.items():
        total = 0.0
        for operation, count in sorted(counted.items(), key=lambda one: -one[0].flops * one[1]):
            try:
                timed = time_one(operation, setting, for_s)
            except RuntimeError as error:  # one that does not fit must not cost all others
                timed = {"ms": None, "tflop_per_s": None, "refused": _first_line(error)}
            operations.append({"part": part, "count": count, **as_json(operation), **timed})
            total += count * (timed["ms"] or 0.0)
        library_ms[part] = round(total, 3)
    return {
        **setting.describe("ceilings"),
        "ceilings": ceilings,
        "library_ms": library_ms,
        "operations": operations,
    }


def architecture(setting: Setting) -> Architecture:
    """The tiny one for the tiny checkpoint; every other has the published sizes."""
    return tiny() if setting.checkpoint.name == "tiny-svd" else full_size(setting.frames)


def copies(setting: Setting, size: int) -> Result:
    """GB/s within the device, bytes read and written, and to and from pinned host memory."""
    source = setting.random(size // setting.precision.itemsize)
    target = torch.empty_like(source)
    found = {"device": _gb_per_s(2 * size, lambda: target.copy_(source), setting)}
    if setting.device.startswith("cuda"):
        host = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
        found["to_host"] = _gb_per_s(size, lambda: host.copy_(source, non_blocking=True), setting)
        found["from_host"] = _gb_per_s(size, lambda: target.copy_(host, non_blocking=True), setting)
    return {"bytes": size, "gb_per_s": found}


def _gb_per_s(size: int, work: Callable[[], object], setting: Setting) -> float:
    return round(size / milliseconds(work, setting.device)["median"] / 1e6, 1)


def products(setting: Setting, side: int) -> Result:
    """TFLOP/s of one large square product, by type."""
    square = Product(side, side, side, bias=False)
    by_type = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
    if not setting.device.startswith("cuda"):
        by_type = {"float32": torch.float32}
    found: Result = {}
    for name, dtype in by_type.items():
        x, weight = (torch.randn(side, side, device=setting.device).to(dtype) for _ in range(2))
        multiply = partial(torch.matmul, x, weight)
        found[name] = rate(square, _median(multiply, setting.device, 0.3))
    if has_fp8(setting):
        found["float8_e4m3fn"] = _fp8(square, setting, 0.3)["fp8_tflop_per_s"]
    return {"side": side, "tflop_per_s": found}


def rate(operation: Operation, ms: float) -> float:
    """TFLOP/s."""
    return round(operation.flops / ms / 1e9, 3)


def time_one(operation: Operation, setting: Setting, for_s: float) -> Result:
    """Milliseconds and TFLOP/s of one operation; None where no backend would run it.

    Raises:
        RuntimeError: the library refuses it, or it does not fit in memory.
    """
    assert not isinstance(operation, Ours)  # those are `benchmarks.twins`'
    if isinstance(operation, Attention):
        return _time_attention(operation, setting, for_s)
    work = (
        product(operation, setting)
        if isinstance(operation, Product)
        else convolution(operation, setting)
    )
    ms = _median(work, setting.device, for_s)
    timed: Result = {"ms": ms, "tflop_per_s": rate(operation, ms)}
    if isinstance(operation, Product) and operation.k >= FP8_DEPTH and has_fp8(setting):
        timed |= _fp8(operation, setting, for_s)
    return timed


def _fp8(shape: Product, setting: Setting, for_s: float) -> Result:
    try:
        ms = _median(fp8_product(shape, setting), setting.device, for_s)
    except RuntimeError as error:
        return {"fp8_ms": None, "fp8_tflop_per_s": None, "fp8_refused": _first_line(error)}
    return {"fp8_ms": ms, "fp8_tflop_per_s": rate(shape, ms)}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def product(shape: Product, setting: Setting) -> Callable[[], Tensor]:
    """A linear layer of that shape."""
    x, weight = setting.random(shape.m, shape.k), setting.random(shape.n, shape.k)
    bias = setting.random(shape.n) if shape.bias else None
    return lambda: functional.linear(x, weight, bias)


def fp8_product(shape: Product, setting: Setting) -> Callable[[], object]:
    """The same in fp8 with one scale for each matrix, result in half precision."""
    x, weight = (
        torch.randn(rows, shape.k, device=setting.device).to(torch.float8_e4m3fn)
        for rows in (shape.m, shape.n)
    )
    one = torch.ones((), device=setting.device)
    return lambda: torch._scaled_mm(
        x, weight.t(), one, one, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def has_fp8(setting: Setting) -> bool:
    """Whether the GPU multiplies in fp8."""
    return setting.device.startswith("cuda") and torch.cuda.get_device_capability() >= (8, 9)


def convolution(shape: Convolution, setting: Setting) -> Callable[[], Tensor]:
    """A convolution of that shape, channels last."""
    x = _channels_last(setting, shape.images, shape.channels, shape.height, shape.width)
    weight = _channels_last(setting, shape.out, shape.channels, *shape.kernel)
    bias = setting.random(shape.out) if shape.bias else None
    return lambda: functional.conv2d(x, weight, bias, stride=shape.stride, padding=shape.padding)


def _channels_last(setting: Setting, items: int, channels: int, height: int, width: int) -> Tensor:
    return setting.random(items, height, width, channels).permute(0, 3, 1, 2)


def _time_attention(shape: Attention, setting: Setting, for_s: float) -> Result:
    """The fastest backend's time, and every backend's time or refusal."""
    timed = attention_ms(shape, setting, attention_inputs(shape, setting), for_s)
    taken = {name: ms for name, ms in timed.items() if isinstance(ms, float)}
    best = min(taken, key=lambda name: taken[name]) if taken else None
    ms = taken[best] if best else None
    return {
        "ms": ms,
        "tflop_per_s": rate(shape, ms) if ms else None,
        "fastest": best,
        "backends_ms": timed,
    }


def attention_ms(
    shape: Attention, setting: Setting, inputs: list[Tensor], for_s: float
) -> dict[str, float | str]:
    """Of every backend that the device may have, its time, or why it refuses."""
    if setting.device.startswith("cuda"):
        names = [name for name in BACKENDS if name != "math" or _scores(shape) <= MOST_SCORES]
    else:
        names = ["flash", "math"]
    query, key, value = inputs
    attend = partial(functional.scaled_dot_product_attention, query, key, value)
    timed: dict[str, float | str] = {}
    for name in names:
        try:
            with sdpa_kernel(BACKENDS[name]):
                timed[name] = _median(attend, setting.device, for_s)
        except RuntimeError as error:
            timed[name] = _first_line(error)
    return timed


def _scores(shape: Attention) -> int:
    return shape.batch * shape.heads * shape.tokens**2


def attention_inputs(shape: Attention, setting: Setting) -> list[Tensor]:
    """Query, key and value, each laid out with the shape's strides."""
    size = (shape.batch, shape.heads, shape.tokens, shape.size)
    reach = 1 + sum((side - 1) * step for side, step in zip(size, shape.strides, strict=True))
    return [setting.random(reach).as_strided(size, shape.strides) for _ in range(3)]


def _median(work: Callable[[], object], device: str, for_s: float) -> float:
    return milliseconds(work, device, for_s=for_s)["median"]


if __name__ == "__main__":
    run(main)
