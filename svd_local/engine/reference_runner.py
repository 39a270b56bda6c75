"""A loaded pipeline that the reference engine runs, in one placement after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import TYPE_CHECKING

from svd_local.engine import reference
from svd_local.engine.architecture import COMPONENTS
from svd_local.engine.fused.counting import counted
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
        self,
        way: Rung,
        image: Image,
        sampling: Sampling,
        *,
        report: Report,
        check: Check,
        counts: bool = True,
    ) -> Generator[Pixels, None, tuple[Phases, int | None]]:
        """One clip (see `streams`), and the bytes it took at its peak; None where not measured.

        On the CPU living tensors are followed where ``counts`` and everything is resident: offloaded
        weights have nowhere else to go there. The pixels stay the same, bit for bit.

        Raises:
            Exception: what `reference.render` raises.
        """
        chunked = dataclasses.replace(sampling, decode_chunk=way.decode_chunk)
        work = reference.render(self.pipeline, image, chunked, report=report, check=check)
        if self._device.startswith("cuda"):
            import torch

            phases = yield from work
            return phases, int(torch.cuda.max_memory_allocated(self._device))
        if not counts or way.placement != "resident":
            return (yield from work), None
        phases, peak = yield from counted(work, self._device)
        return phases, self._weight_bytes() + peak

    def recover(self) -> None:
        """Hooks off, weights in main memory, the VAE in its precision."""
        self._placed = None
        clear(self.pipeline, self._dtype)

    def close(self) -> None:
        """Take the hooks off and the weights from the device."""
        self._placed = None
        clear(self.pipeline)
        empty_cache()

    def _weight_bytes(self) -> int:
        return sum(
            weight.numel() * weight.itemsize
            for name in COMPONENTS
            for weight in getattr(self.pipeline, name).parameters()
        )
