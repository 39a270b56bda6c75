"""What the measurements share: the machine they ran on, spreads, and results written whole or not at all."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.options import count, existing, side, target

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = ("torch", "diffusers", "transformers", "triton")

Result = dict[str, Any]


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Median, least, most and number of repeated measurements."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "n": len(values),
    }


def synchronise(device: str) -> None:
    """Wait for everything queued on the GPU, where ``device`` is one."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    """Wall-clock seconds of ``work``, everything it queues on the GPU included."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def gpu_name(device: str) -> str | None:
    """What the GPU calls itself; None on the CPU."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else None


def machine(device: str) -> Result:
    """Where it ran: processor, GPU, driver."""
    found: Result = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu_memory_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
            "driver": driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    return found


def processor() -> str:
    """What the processor calls itself, where that can be read."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def driver() -> str | None:
    """Version of the GPU's driver, where NVML can be asked."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlSystemGetDriverVersion())
        finally:
            pynvml.nvmlShutdown()
    except (ImportError, OSError) as error:
        print(f"the driver's version is not known: {error}", flush=True)
        return None


def versions() -> dict[str, str]:
    """Of Python and of the libraries that decide speed; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_json(path: Path, result: Result) -> None:
    """Write ``result`` to ``path`` so that whoever looks finds all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=".draft-", delete=False
    ) as draft:
        draft.write(text)
    Path(draft.name).chmod(0o644)
    Path(draft.name).replace(path)


def finish(result: Result, path: Path | None) -> None:
    """Print a result, and write it where a file was named."""
    print(json.dumps(result, indent=2))
    if path is not None:
        write_json(path, result)


def arguments_for(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every measurement of the engine takes."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--checkpoint",
        default="tiny-svd",
        help="tiny-svd, synthetic:svd, synthetic:svd-xt, an installed name, or a path",
    )
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"))
    parser.add_argument("--width", type=side, help="pixels; the checkpoint's own where not given")
    parser.add_argument("--height", type=side)
    parser.add_argument("--frames", type=count, help="the checkpoint's own where not given")
    parser.add_argument(
        "--from-disk",
        action="store_true",
        help="read a synthetic checkpoint from files, which are written to the models folder once",
    )
    parser.add_argument(
        "--kernels",
        choices=("auto", "all", "none"),
        default="auto",
        help="of our own: where measured to win, wherever they can run, or nowhere",
    )
    parser.add_argument(
        "--attention", type=existing, help="a result of benchmarks.attention to go by"
    )
    parser.add_argument("--twins", type=existing, help="a result of benchmarks.twins to go by")
    parser.add_argument("--json", type=target, help="file to write the result to")
    return parser


def fp8_option(parser: argparse.ArgumentParser) -> None:
    """The option of what measures layers in 8 bits."""
    parser.add_argument(
        "--fp8-inputs",
        type=int,
        help="inputs from which on a layer is in 8 bits; to rehearse on a tiny network",
    )


def fp8_inputs(arguments: argparse.Namespace) -> None:
    """Set the process up for that option."""
    if arguments.fp8_inputs is not None:
        from svd_local.engine.fused import fp8

        fp8.LEAST_INPUTS = arguments.fp8_inputs
