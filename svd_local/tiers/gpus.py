"""The NVIDIA GPUs of this machine, asked of the driver: no torch, no CUDA context."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

_NONE_VISIBLE = ("", "-1", "none", "NoDevFiles")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver sees it now; memory in bytes."""

    name: str
    total_bytes: int
    free_bytes: int
    driver: str
    uuid: str | None = None
    """As the driver knows it; None where ``CUDA_VISIBLE_DEVICES`` names it in a way only CUDA resolves."""
    handle: str = "0"
    """What ``CUDA_VISIBLE_DEVICES`` is for a process that is to see this GPU alone."""
    capability: tuple[int, int] | None = None
    """Compute capability; None where only CUDA knows which GPU this is."""


def list_gpus() -> list[Gpu]:
    """The GPUs this process may use, in CUDA's order, as ``CUDA_VISIBLE_DEVICES`` restricts them.

    Empty where there is no driver. As CUDA does, the list ends at the first name that is no GPU's.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in _NONE_VISIBLE:
        return []
    with nvml() as driver:
        if driver is None:
            return []
        import pynvml

        try:
            there = [_gpu(pynvml.nvmlDeviceGetHandleByIndex(index), driver) for index in _indices()]
            return there if visible is None else _restricted(there, visible.split(","), driver)
        except pynvml.NVMLError:
            return []


def no_cuda() -> str | None:
    """Why no GPU can be computed on here, in one sentence; None where one can.

    Asked of the driver and of torch's version: loading torch would take seconds.
    """
    if not list_gpus():
        return "no NVIDIA GPU was found"
    build = version("torch").partition("+")[2]
    if build == "cpu":
        return "there is an NVIDIA GPU, but the installed torch is built without CUDA"
    return None


@contextmanager
def nvml() -> Iterator[str | None]:
    """NVML, ready within the block: the driver's version; None where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        try:
            driver = _text(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError:
            driver = None
        yield driver
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _indices() -> range:
    import pynvml

    return range(pynvml.nvmlDeviceGetCount())


def _restricted(there: Sequence[Gpu], names: Sequence[str], driver: str) -> list[Gpu]:
    """Those of ``there`` that a value of ``CUDA_VISIBLE_DEVICES`` names, in its order."""
    found: list[Gpu] = []
    # CUDA counts the fastest GPU first unless told otherwise, the driver by the bus: of GPUs that
    # differ, only CUDA knows which one a number means.
    by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    by_bus = by_bus or len({gpu.name for gpu in there}) == 1
    for name in map(str.strip, names):
        if name.isdecimal():
            if int(name) >= len(there):
                break
            gpu = there[int(name)]
            if not by_bus:
                gpu = Gpu(f"GPU {name}", gpu.total_bytes, gpu.free_bytes, driver, None, name)
        elif name.startswith("MIG-"):
            slice_ = _by_uuid(name, driver)
            if slice_ is None:
                break
            gpu = slice_
        else:
            named = [gpu for gpu in there if name and (gpu.uuid or "").startswith(name)]
            if len(named) != 1:
                break
            gpu = named[0]
        if all(gpu.handle != other.handle for other in found):
            found.append(gpu)
    return found


def _by_uuid(uuid: str, driver: str) -> Gpu | None:
    import pynvml

    try:
        return _gpu(pynvml.nvmlDeviceGetHandleByUUID(uuid), driver)
    except pynvml.NVMLError:
        return None


def _gpu(handle: Any, driver: str) -> Gpu:
    import pynvml

    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name = _text(pynvml.nvmlDeviceGetName(handle))
    uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
    capability = None
    with suppress(pynvml.NVMLError):
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        capability = (int(major), int(minor))
    return Gpu(name, int(memory.total), int(memory.free), driver, uuid, uuid, capability)


def _text(value: str | bytes) -> str:
    """Older bindings answer in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
