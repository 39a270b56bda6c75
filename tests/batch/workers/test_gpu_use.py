from __future__ import annotations

import time
from types import SimpleNamespace

import pynvml
import pytest

from svd_local.batch.workers.gpu_use import GpuUse


@pytest.fixture
def driver(monkeypatch):
    """A driver whose GPU ``a`` is ever busier, and whose GPU ``lost`` does not answer."""
    told = []

    def rates(uuid):
        if uuid == "lost":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        told.append(min(100, 20 * len(told)))
        return SimpleNamespace(gpu=told[-1])

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "1")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", rates)
    return told


def test_the_mean_is_of_what_the_driver_told(driver):
    with GpuUse(["a", "lost"], every_s=0.01) as use:
        deadline = time.monotonic() + 10
        while len(driver) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)

    assert use.mean("a") == pytest.approx(sum(driver) / len(driver) / 100)
    assert use.mean("lost") is None
    assert use.mean(None) is None


def test_without_a_driver_nothing_is_measured():
    with GpuUse(["a"], every_s=0.01) as use:
        time.sleep(0.05)

    assert use.mean("a") is None
