from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from svd_local.tiers.gpus import list_gpus


@pytest.fixture
def driver(monkeypatch):
    """A driver with the GPUs it is told, and a way to name what CUDA_VISIBLE_DEVICES is."""

    def there(*names: str) -> None:
        uuids = [f"GPU-{number}{number}-{name}" for number, name in enumerate(names)]
        known = dict(zip(uuids, names, strict=True)) | {"MIG-77": "slice"}

        def by_uuid(uuid):
            if uuid not in known:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
            return uuid

        answers = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: "999.1",
            "nvmlDeviceGetCount": lambda: len(uuids),
            "nvmlDeviceGetHandleByIndex": lambda index: uuids[index],
            "nvmlDeviceGetHandleByUUID": by_uuid,
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=20, free=10),
            "nvmlDeviceGetName": lambda handle: known[handle],
            "nvmlDeviceGetUUID": lambda handle: handle.encode(),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(pynvml, name, answer)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)

    return there


def test_every_gpu_is_named_by_its_uuid(driver):
    driver("a", "b")

    assert [(gpu.name, gpu.uuid, gpu.handle) for gpu in list_gpus()] == [
        ("a", "GPU-00-a", "GPU-00-a"),
        ("b", "GPU-11-b", "GPU-11-b"),
    ]


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        ("1", ["GPU-11-a"]),
        ("2, 0", ["GPU-22-a", "GPU-00-a"]),
        ("GPU-2", ["GPU-22-a"]),
        ("0,0,GPU-00", ["GPU-00-a"]),
        ("1,7,0", ["GPU-11-a"]),  # CUDA ends the list at what it does not know
        ("GPU-,0", []),  # more than one
        ("MIG-77,MIG-78,0", ["MIG-77"]),
        ("", []),
        ("-1", []),
    ],
)
def test_what_the_user_hides_is_not_seen(driver, monkeypatch, visible, seen):
    driver("a", "a", "a")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert [gpu.handle for gpu in list_gpus()] == seen


def test_numbers_of_gpus_that_differ_are_left_to_cuda_unless_it_counts_as_the_driver(
    driver, monkeypatch
):
    driver("slow", "fast")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    [gpu] = list_gpus()
    assert (gpu.name, gpu.uuid, gpu.handle) == ("GPU 1", None, "1")

    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    [gpu] = list_gpus()
    assert (gpu.name, gpu.handle) == ("fast", "GPU-11-fast")


def test_a_driver_that_fails_half_way_shows_no_gpu(driver, monkeypatch):
    driver("a")

    def fail():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", fail)
    assert list_gpus() == []
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", fail)
    assert list_gpus() == []
