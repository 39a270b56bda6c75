"""The kernels that a guided step's time goes into, the heaviest first.

    python -m benchmarks.kernels [--device cpu|cuda] [--checkpoint NAME] [--engine reference|fused|fused-compiled] [--frames N] [--json FILE]

One step is profiled after several that warm up. ``bytes`` are those of the inputs and results of the
operation that launched the kernel, each counted once: the least it could have moved, so that
``gb_per_s`` far below a copy's rate means arithmetic, or memory read more than once. It is given only
where torch's own operations run. On the CPU, which has no kernels, the operations themselves are listed.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.common import Result, arguments_for, finish, synchronise
from benchmarks.correctness import StepInputs, step_by_reference
from benchmarks.engines import BACKENDS, CompiledUNet
from benchmarks.options import run
from benchmarks.setting import Setting
from benchmarks.timing import milliseconds
from svd_local.engine.fused.kernels.choice import using
from svd_local.engine.fused.unet import FusedUNet
from svd_local.engine.loading import load
from svd_local.engine.placement import place

ENGINES = ("reference", "fused", "fused-compiled")
HEAVIEST = 50
SIGMA = 1.0
_MARK = "operation|"


def main() -> None:
    """Measure, print, and write the result."""
    parser = arguments_for(__doc__)
    parser.add_argument("--engine", choices=ENGINES, default="fused")
    parser.add_argument("--compile-backend", choices=BACKENDS, default="inductor")
    arguments = parser.parse_args()
    result = measure(Setting.of(arguments), arguments.engine, arguments.compile_backend)
    finish(result, arguments.json)


@torch.inference_mode()
def measure(setting: Setting, engine: str, backend: str = "inductor", for_s: float = 1.0) -> Result:
    """A step's time in all, over ``for_s`` seconds, and by kernel."""
    torch.manual_seed(0)
    counts_bytes = "compiled" not in engine
    with using(setting.kernels):
        step = one_step(setting, engine, backend)
        step_ms = milliseconds(step, setting.device, for_s=for_s)
        spent = profiled(step, setting.device, counts_bytes=counts_bytes)
    total = sum(kernel.ms for kernel in spent)
    rows = [kernel.to_json(total) for kernel in spent[:HEAVIEST]]
    return {
        **setting.describe("kernels"),
        "engine": engine,
        "step_ms": step_ms,
        "listed": "kernels" if setting.device.startswith("cuda") else "operations",
        "sum_ms": round(total, 3),
        "different": len(spent),
        "heaviest": rows,
    }


def one_step(setting: Setting, engine: str, backend: str) -> Callable[[], object]:
    """A guided step of ``engine`` on random inputs, its constants worked out beforehand."""
    pipeline = load(setting.checkpoint, setting.device, setting.precision)
    place(pipeline, "resident", setting.device)
    given = StepInputs.drawn(setting, pipeline, SIGMA)
    if engine == "reference":
        return lambda: step_by_reference(pipeline, given)
    unet = FusedUNet.from_reference(pipeline.unet)
    if engine == "fused-compiled":
        unet = CompiledUNet.of(unet, backend)
    clip = unet.prepare(
        image_latents=given.image,
        image_embeddings=given.context,
        added_time_ids=given.ids,
        timesteps=given.timestep[None],
        num_frames=given.latents.shape[1],
        guidance=given.guidance,
    )
    return lambda: unet.step(given.latents, clip, 0)


@dataclass(frozen=True)
class Kernel:
    """All launches of one kernel: milliseconds, and bytes where they could be told."""

    name: str
    calls: int
    ms: float
    bytes: int | None

    def plus(self, other: Kernel) -> Kernel:
        """Both together."""
        known = [size for size in (self.bytes, other.bytes) if size is not None]
        return dataclasses.replace(
            self,
            calls=self.calls + other.calls,
            ms=self.ms + other.ms,
            bytes=sum(known) if known else None,
        )

    def to_json(self, total_ms: float) -> Result:
        return {
            "name": self.name,
            "calls": self.calls,
            "ms": round(self.ms, 4),
            "share": round(self.ms / total_ms, 4) if total_ms else None,
            "bytes": self.bytes,
            "gb_per_s": round(self.bytes / self.ms / 1e6, 1) if self.bytes and self.ms else None,
        }


def profiled(step: Callable[[], object], device: str, *, counts_bytes: bool) -> list[Kernel]:
    """Kernels of one step, the longest in all first; operations where there is no GPU."""
    on_gpu = device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    marks = Marks()
    synchronise(device)
    with profile(activities=activities) as profiler:
        with marks if counts_bytes else nullcontext():
            step()
        synchronise(device)
    events = list(profiler.events() or [])
    return heaviest(kernels_of(events, marks.sizes) if on_gpu else operations_of(events, marks))


class Marks(TorchDispatchMode):
    """Within it every operation is recorded under a number, and ``sizes`` has its bytes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: list[int] = []
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.ops.prim.device.default:
            # In inference mode linear and conv2d come here whole: see what they are made of.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        if func.is_view:  # moves nothing
            return func(*args, **kwargs)
        with record_function(f"{_MARK}{len(self.sizes)}"):
            result = func(*args, **kwargs)
        self.names.append(str(func))
        self.sizes.append(_bytes((args, kwargs, result)))
        return result


def _bytes(tree: Any) -> int:
    """Of all different tensors in it: what is written in place counts once."""
    seen = {id(leaf): leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}
    return sum(tensor.numel() * tensor.itemsize for tensor in seen.values())


def kernels_of(events: Sequence[Any], sizes: Sequence[int]) -> list[Kernel]:
    """What ran on the GPU; ``sizes`` are the bytes of the numbered operations.

    An operation that launches several kernels shares its bytes among them by their time.
    """
    ran = [
        Kernel(event.name, 1, event.time_range.elapsed_us() / 1e3, None)
        for event in events
        if event.device_type.name == "CUDA" and not _is_annotation(event)
    ]
    launched: defaultdict[int, list[tuple[str, float]]] = defaultdict(list)
    for event in events:
        if event.device_type.name == "CPU" and event.kernels:
            number = _mark_above(event)
            if number is not None:
                launched[number] += [(kernel.name, kernel.duration) for kernel in event.kernels]
    moved: defaultdict[str, float] = defaultdict(float)
    for number, kernels in launched.items():
        total = sum(duration for _, duration in kernels)
        for name, duration in kernels:
            moved[name] += sizes[number] * duration / total if total else 0
    return [
        dataclasses.replace(kernel, bytes=round(moved[kernel.name]) or None)
        for kernel in merged(ran)
    ]


def _is_annotation(event: Any) -> bool:
    return event.name.startswith(_MARK) or getattr(event, "is_user_annotation", False)


def _mark_above(event: Any) -> int | None:
    """Number of the marked operation that ``event`` lies in."""
    while event is not None:
        if event.name.startswith(_MARK):
            return int(event.name.removeprefix(_MARK))
        event = event.cpu_parent
    return None


def operations_of(events: Sequence[Any], marks: Marks) -> list[Kernel]:
    """Without a GPU: the marked operations, each with all the time spent in it."""
    spent = []
    for event in events:
        if event.name.startswith(_MARK):
            number = int(event.name.removeprefix(_MARK))
            ms = event.time_range.elapsed_us() / 1e3
            spent.append(Kernel(marks.names[number], 1, ms, marks.sizes[number]))
    return merged(spent)


def merged(kernels: Iterable[Kernel]) -> list[Kernel]:
    """One entry for each name."""
    by_name: dict[str, Kernel] = {}
    for kernel in kernels:
        before = by_name.get(kernel.name)
        by_name[kernel.name] = kernel if before is None else before.plus(kernel)
    return list(by_name.values())


def heaviest(kernels: Iterable[Kernel]) -> list[Kernel]:
    """Sorted by time, the most first."""
    return sorted(kernels, key=lambda kernel: -kernel.ms)


if __name__ == "__main__":
    run(main)
