"""A loaded pipeline that the reference engine runs, in one placement after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import TYPE_CHECKING

from svd_local.engine import reference
from svd_local.engine.memory import Rung
from svd_local.engine.placement import Placement, clear, empty_cache, place
from svd_local.engine.values import Check, Phases, Report, Sampling

if TYPE_CHECKING:
    import torch
    from diffusers import StableVideoDiffusionPipeline
    from PIL.Image import Image

    from svd_local.engine.values import Pixels


class ReferenceRunner:
    """The bare pipeline; after any exception and `recover` it is as new."""

    engine = "reference"

    def __init__(
        self, pipeline: StableVideoDiffusionPipeline, device: str, dtype: torch.dtype
    ) -> None:
        self.pipeline = pipeline
        self._device = device
        self._dtype = dtype
        self._placed: Placement | None = None

    def prepare(self, way: Rung) -> None:
        """Have the weights where ``way`` wants them.

        Raises:
            torch.OutOfMemoryError: they do not fit there.
        """
        if self._placed == way.placement:
            return
        if self._placed is not None:
            self.recover()
        place(self.pipeline, way.placement, self._device)
        self._placed = way.placement

    def render(
        self, way: Rung, image: Image, sampling: Sampling, *, report: Report, check: Check
    ) -> Generator[Pixels, None, tuple[Phases, int | None]]:
        """One clip (see `streams`), and the bytes it took at its peak; None where not measured.

        Raises:
            Exception: what `reference.render` raises.
        """
        chunked = dataclasses.replace(sampling, decode_chunk=way.decode_chunk)
        phases = yield from reference.render(
            self.pipeline, image, chunked, report=report, check=check
        )
        return phases, self._measured_peak()

    def recover(self) -> None:
        """Hooks off, weights in main memory, the VAE in its precision."""
        self._placed = None
        clear(self.pipeline, self._dtype)

    def close(self) -> None:
        """Take the hooks off and the weights from the device."""
        self._placed = None
        clear(self.pipeline)
        empty_cache()

    def _measured_peak(self) -> int | None:
        if not self._device.startswith("cuda"):
            return None
        import torch

        return int(torch.cuda.max_memory_allocated(self._device))
