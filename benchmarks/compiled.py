"""What Triton's compiler makes of each kernel, for a GPU that need not be there.

    python -m benchmarks.compiled [--capability 9.0] [--width 320] [--kernel NAME] [--json FILE]

Every configuration of every kernel is compiled for a GPU of that compute capability as it would be for a
real call at that width, but never run: registers a thread, bytes spilled to memory, shared memory, and
the instructions that say whether it does what it was written to do (matrix instructions of Hopper or of
older GPUs, loads and copies of 16 bytes). Needs Triton, which must not interpret; takes minutes the first
time, since each is compiled anew.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.common import Result, finish, versions
from benchmarks.twins import configurations
from svd_local.engine.fused.kernels.choice import KERNELS
from svd_local.engine.fused.kernels.proof import small

_INSTRUCTIONS = {
    "hopper_products": r"wgmma\.mma_async",
    "older_products": r"mma\.sync",
    "wide_loads": r"ld\.global[^;]*\.v4",
    "wide_copies": r"cp\.async\.cg[^;]*, 0x10",
}


def main() -> None:
    """Compile, print, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--capability", default="9.0", help="8.0, 8.6, 8.9, 9.0, 10.0, 12.0")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--kernel", choices=KERNELS, action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    capability = int(arguments.capability.replace(".", ""))
    rows = list(compiled(capability, arguments.width, arguments.kernel or KERNELS))
    result = {
        "benchmark": "compiled",
        "capability": arguments.capability,
        "width": arguments.width,
        "versions": versions(),
        "kernels": rows,
    }
    finish(result, arguments.json)


def compiled(capability: int, width: int, kernels: Any) -> Iterator[Result]:
    """Every program of every configuration."""
    for kernel in kernels:
        for config in configurations(kernel):
            trial = small(kernel, width)
            inputs = trial.drawn("cpu", torch.float16)
            try:
                made = programs(capability, partial(trial.by, trial.own(config), inputs))
            except Exception as error:  # noqa: BLE001 - whatever a compiler raises
                why = str(error).strip().partition("\n")[0]
                yield {"kernel": kernel, "config": dict(config), "refused": why}
                continue
            for one in made:
                yield {"kernel": kernel, "config": dict(config), **one}


def programs(capability: int, work: Callable[[], object]) -> list[Result]:
    """What ``work`` would launch, compiled instead."""
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    found: list[Result] = []
    launch = JITFunction.run

    def compile_only(self: Any, *given: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = launch(self, *given, grid=grid, warmup=True, **options)
        found.append({"program": self.__name__.lstrip("_"), **resources(kernel)})
        return kernel

    driver.set_active(_Absent(capability))
    with mock.patch.object(JITFunction, "run", compile_only):
        work()
    return found


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
    main()
