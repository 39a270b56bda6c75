"""How busy the GPUs are, asked of the driver every other second."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from svd_local.tiers.gpus import nvml

_EVERY_S = 2.0
_OVER_WAIT_S = 5.0


class GpuUse:
    """Samples the GPUs with the given UUIDs in a thread of its own; a context manager.

    What the driver calls utilisation: the share of its last sampling period (up to a second) in which
    a kernel ran, which says nothing about how much of the GPU that kernel filled (NVML API,
    ``nvmlUtilization_t``).
    """

    def __init__(self, uuids: Iterable[str], every_s: float = _EVERY_S) -> None:
        self._uuids = frozenset(uuids)
        self._every_s = every_s
        self._samples: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="batch-gpu-use", daemon=True)

    def __enter__(self) -> Self:
        if self._uuids:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._uuids:
            self._thread.join(_OVER_WAIT_S)  # a driver that hangs does not keep the batch

    def mean(self, uuid: str | None) -> float | None:
        """Share of the time in which the GPU computed, 0 to 1; None where nothing was measured."""
        with self._lock:
            total, count = (0, 0) if uuid is None else self._samples.get(uuid, (0, 0))
        return total / count / 100 if count else None

    def _watch(self) -> None:
        import pynvml

        with nvml() as driver:
            if driver is None:
                return
            while not self._over.wait(self._every_s):
                for uuid in self._uuids:
                    try:
                        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                        busy = int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                    except pynvml.NVMLError:
                        continue  # it was lost, or does not tell, as a slice of a GPU
                    with self._lock:
                        sample = self._samples[uuid]
                        sample[0] += busy
                        sample[1] += 1
