"""What torch itself sees of this machine. Loads torch: seconds, not milliseconds."""

from __future__ import annotations

from typing import Any


def look() -> dict[str, Any]:
    """Version, devices and precisions, JSON-able; memory in bytes."""
    import torch

    devices = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            properties = torch.cuda.get_device_properties(index)
            devices.append(
                {
                    "name": properties.name,
                    "capability": f"{properties.major}.{properties.minor}",
                    "total_bytes": total,
                    "free_bytes": free,
                }
            )
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "cuda_available": torch.cuda.is_available(),
        "bfloat16": bool(devices) and torch.cuda.is_bf16_supported(False),
        "threads": torch.get_num_threads(),
        "devices": devices,
    }
