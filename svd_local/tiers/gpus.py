"""The NVIDIA GPUs of this machine, asked of the driver: no torch, no CUDA context."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver sees it now; memory in bytes."""

    name: str
    total_bytes: int
    free_bytes: int
    driver: str


def list_gpus() -> list[Gpu]:
    """The GPUs this process may use; empty where there is no driver or ``CUDA_VISIBLE_DEVICES`` hides them."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1", "none", "NoDevFiles"):
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        return [_gpu(index, driver) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


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


def _gpu(index: int, driver: str) -> Gpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name = _text(pynvml.nvmlDeviceGetName(handle))
    return Gpu(name, int(memory.total), int(memory.free), driver)


def _text(value: str | bytes) -> str:
    """Older bindings answer in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
