"""What Triton's compiler makes of each kernel, for a GPU that need not be there.

    python -m benchmarks.compiled [--capability 9.0] [--frames 25] [--dtype float16|bfloat16] [--kernel NAME] [--json FILE]

Every configuration of every kernel is compiled for a GPU of that compute capability as each call of a clip at
full size would have it, 1024x576 pixels, half precision, but never run: registers a thread, bytes spilled to memory,
shared memory, and the instructions that say whether it does what it was written to do (matrix instructions of
Hopper or of older GPUs, accesses of 16 bytes at once, accesses of less than 4). Calls and configurations that
compile to the same program are one row. ``wrong`` says why a row could not run, or would run badly, on that GPU: no such program
may be in the package, and the exit status is 1 where one is. Needs Triton, which must not interpret; takes minutes
the first time, since each is compiled anew.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.common import Result, finish, versions
from benchmarks.options import count, target
from benchmarks.shapes import Ours, shapes_of
from benchmarks.twins import MODULES, configurations
from svd_local.engine.architecture import full_size
from svd_local.engine.fused.kernels.choice import ALL, KERNELS, Config, Kernel

WIDTH, HEIGHT = 1024, 576
GROUPS, EPS, HEAD_SIZE = 32, 1e-5, 64
_INSTRUCTIONS = {
    "hopper_products": r"wgmma\.mma_async",
    "older_products": r"mma\.sync",
    "wide_accesses": r"(?:ld|st)\.global[^;]*\.v4",
    "wide_copies": r"cp\.async\.cg[^;]*, 0x10",
    "narrow_loads": r"ld\.global(?:[.:]+[a-zA-Z_0-9]+)*?\.[bu](?:8|16)\s",
    "narrow_stores": r"st\.global(?:[.:]+[a-zA-Z_0-9]+)*?\.[bu](?:8|16)\s",
}
SHARED_BYTES = {
    80: 166912,
    86: 101376,
    87: 166912,
    89: 101376,
    90: 232448,
    100: 232448,
    120: 101376,
}
"""What one block may have, by compute capability (CUDA C++ Programming Guide, technical specifications)."""
_GRID = (2**31 - 1, 65535, 65535)
_SPILLED_BYTES = 16
"""For each thread: a few once do not matter."""
_NARROW = ("merge", "once", "by_turns")
"""Programs that may read 2 bytes at a time: the scales of a group's channels, a product's bias."""


def main() -> int:
    """Compile, print, write the result; exit status 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    known = ", ".join(f"{number // 10}.{number % 10}" for number in SHARED_BYTES)
    parser.add_argument("--capability", default="9.0", help=known)
    parser.add_argument("--frames", type=count, default=25)
    parser.add_argument("--dtype", choices=("float16", "bfloat16"), default="float16")
    parser.add_argument("--kernel", choices=KERNELS, action="append")
    parser.add_argument("--json", type=target)
    arguments = parser.parse_args()
    capability = int(arguments.capability.replace(".", ""))
    if capability not in SHARED_BYTES:
        parser.error(f"--capability {arguments.capability} is none of {known}")
    calls = [
        one for one in calls_of(arguments.frames) if one.kernel in (arguments.kernel or KERNELS)
    ]
    rows = list(compiled(capability, calls, getattr(torch, arguments.dtype)))
    result = {
        "benchmark": "compiled",
        "capability": arguments.capability,
        "frames": arguments.frames,
        "dtype": arguments.dtype,
        "versions": versions(),
        "passed": not any(row["wrong"] for row in rows),
        "kernels": rows,
    }
    finish(result, arguments.json)
    for row in (row for row in rows if row["wrong"]):
        told = "; ".join(row["wrong"])
        print(f"{row['kernel']} {row['configs'][0]} {row['program']}: {told}", file=sys.stderr)
    return 0 if result["passed"] else 1


@dataclass(frozen=True)
class Call:
    """One call of a kernel: the sizes of its tensors, and the function that makes it with a configuration."""

    kernel: Kernel
    width: int
    sizes: tuple[tuple[int, ...], ...]
    work: Callable[..., object]

    def by(self, config: Config, dtype: torch.dtype = torch.float16) -> None:
        """Make it, with memory that nobody reads or writes, and that therefore costs none."""
        module = import_module(f"svd_local.engine.fused.kernels.{MODULES[self.kernel]}")
        tensors = [torch.empty(size, dtype=dtype) for size in self.sizes]
        self.work(module, config, *tensors)


def calls_of(frames: int) -> list[Call]:
    """Every different one of a clip at full size, and the ones that working in pieces has beside."""
    shapes = shapes_of(full_size(frames), frames, WIDTH, HEIGHT, ALL)
    found = {
        call: None
        for counted in shapes.values()
        for operation in counted
        if isinstance(operation, Ours)
        for call in _calls(operation)
    }
    return sorted(found, key=lambda call: (KERNELS.index(call.kernel), call.width, call.sizes))


def _calls(operation: Ours) -> Iterator[Call]:
    sizes = operation.sizes
    *_, last = sizes[0]
    if operation.name == "group_norm":
        yield Call("group-norm", last, sizes, _normalise)
        yield Call("group-norm", last, sizes[:1], _moments)
    elif operation.name == "geglu_product":
        yield Call("geglu-product", last, sizes, _geglu_product)
        yield Call("geglu", last, ((sizes[0][0], sizes[1][0]),), _geglu)
    elif operation.name == "temporal_attention":
        yield Call("temporal-attention", last // 3, sizes, _attention)
    elif operation.name == "add_layer_norm_":
        yield Call("add-layer-norm", last, sizes, _add_layer_norm)


def _normalise(
    module: Any,
    config: Config,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    added: Tensor | None = None,
) -> None:
    module.normalise(x, weight, bias, added, GROUPS, EPS, config, silu=True)


def _moments(module: Any, config: Config, x: Tensor) -> None:
    module.channel_moments(x, config)


def _geglu_product(module: Any, config: Config, x: Tensor, weight: Tensor, bias: Tensor) -> None:
    module.geglu_product(x, weight, bias, config)


def _geglu(module: Any, config: Config, x: Tensor) -> None:
    module.geglu(x, config)


def _attention(module: Any, config: Config, qkv: Tensor) -> None:
    module.temporal_attention(qkv, qkv.shape[-1] // 3 // HEAD_SIZE, config)


def _add_layer_norm(
    module: Any, config: Config, x: Tensor, y: Tensor, added: Tensor, weight: Tensor, bias: Tensor
) -> None:
    module.add_layer_norm_(x, y, added, weight, bias, EPS, config)


def compiled(
    capability: int, calls: Iterable[Call], dtype: torch.dtype = torch.float16
) -> Iterator[Result]:
    """A row for every different program, with the widths and the configurations that it is for."""
    rows: dict[tuple[object, ...], Result] = {}
    for call in calls:
        for config in configurations(call.kernel):
            try:
                made = programs(capability, partial(call.by, config, dtype))
            except Exception as error:  # noqa: BLE001 - whatever a compiler raises
                why = str(error).strip().partition("\n")[0] or type(error).__name__
                made = [{"program": None, "hash": None, "wrong": [f"does not compile: {why}"]}]
            for one in made:
                key = (call.kernel, one["program"], one.pop("hash"), *one["wrong"])
                row = rows.setdefault(
                    key, {"kernel": call.kernel, "widths": [], "configs": []} | one
                )
                row["widths"] += [] if call.width in row["widths"] else [call.width]
                row["configs"] += [] if dict(config) in row["configs"] else [dict(config)]
    yield from rows.values()


def programs(capability: int, work: Callable[[], object]) -> list[Result]:
    """What ``work`` would launch, compiled instead."""
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    found: list[Result] = []
    launch = JITFunction.run

    def compile_only(self: Any, *given: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = launch(self, *given, grid=grid, warmup=True, **options)
        name = self.__name__.lstrip("_")
        told = resources(kernel)
        wrong = wrong_with(name, told, tuple(grid), capability)
        found.append({"hash": kernel.hash, "program": name, **told, "wrong": wrong})
        return kernel

    driver.set_active(_Absent(capability))
    with mock.patch.object(JITFunction, "run", compile_only):
        work()
    return found


def wrong_with(program: str, told: Result, grid: tuple[int, ...], capability: int) -> list[str]:
    """Why a program with these resources could not be launched there, or would be slow."""
    wrong = []
    most = SHARED_BYTES[capability]
    if told["shared_bytes"] > most:
        wrong.append(f"takes {told['shared_bytes']} bytes of shared memory, a block has {most}")
    if any(side > limit for side, limit in zip(grid, _GRID, strict=False)):
        wrong.append(f"is launched on a grid of {grid}")
    if told["spilled_bytes"] > _SPILLED_BYTES:
        wrong.append(f"spills {told['spilled_bytes']} bytes")
    narrow = told["narrow_stores"] + (0 if program in _NARROW else told["narrow_loads"])
    if narrow:
        wrong.append(f"moves less than 4 bytes at a time in {narrow} places")
    return wrong


class _Absent:
    """As much of a GPU's driver as the compiler asks."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self._capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int) -> int:
        return 0


def resources(kernel: Any) -> Result:
    """From the assembler's own report, and the text it assembled."""
    import triton

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        said = subprocess.run(
            [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    registers = re.search(r"REG:(\d+)", said)
    spilled = [int(n) for n in re.findall(r"(?:STACK|LOCAL):(\d+)", said)]
    text = kernel.asm["ptx"]
    return {
        "warps": kernel.metadata.num_warps,
        "registers": int(registers[1]) if registers else None,
        "spilled_bytes": sum(spilled),
        "shared_bytes": kernel.metadata.shared,
        **{name: len(re.findall(pattern, text)) for name, pattern in _INSTRUCTIONS.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
