"""A loaded checkpoint that makes clip after clip, each in the fastest placement that fits.

Running out of memory leads to the next smaller exact placement; NaN or black frames lead to one more
try in a safer precision. Whatever was raised, the next clip finds the pipeline as new.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from svd_local.engine import reference
from svd_local.engine.checkpoints import Checkpoint
from svd_local.engine.loading import Precision, load, precision_for, safer_than
from svd_local.engine.memory import Rung, Sizes, ladder
from svd_local.engine.placement import Placement, clear, empty_cache, place
from svd_local.engine.sizes import sizes_of
from svd_local.engine.values import (
    Check,
    Rendered,
    Report,
    Sampling,
    UnusableFrames,
    ignore_check,
    ignore_report,
)
from svd_local.errors import BadOutput, OutOfMemory
from svd_local.result import Memory

if TYPE_CHECKING:
    from diffusers import StableVideoDiffusionPipeline
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Made:
    """A finished clip and how it was really made."""

    rendered: Rendered
    precision: str
    decode_chunk: int
    load_s: float
    memory: Memory
    notes: tuple[str, ...] = ()
    """What the user should know: steps down, a second try."""


class Session:
    """One checkpoint on one device. Not thread-safe: one clip at a time.

    The networks load with the first clip and stay until ``close``.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str, precision: Precision | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self._usual = precision or precision_for(device)
        self._sizes: Sizes | None = None
        self._pipeline: StableVideoDiffusionPipeline | None = None
        self._precision = self._usual
        self._placed: Placement | None = None

    def make(
        self,
        image: Image,
        sampling: Sampling,
        *,
        budget: int | None = None,
        allow_approximate: bool = False,
        report: Report = ignore_report,
        check: Check = ignore_check,
    ) -> Made:
        """One clip from ``image``, which is RGB and of the sampling's size.

        Args:
            image: the conditioning picture.
            sampling: the clip's parameters.
            budget: most bytes of device memory to plan for.
            allow_approximate: decode fewer frames at once where nothing exact fits.
            report: told of progress.
            check: raises to stop.

        Raises:
            InvalidRequest: the budget is below the smallest placement; nothing was loaded.
            OutOfMemory: not even the smallest placement fitted.
            BadOutput: NaN or black frames, also in the safer precision if there is one.
            CheckpointUnavailable: from loading.
        """
        plan = self._ladder(sampling, self._usual, budget, allow_approximate)
        try:
            return self._climb(image, sampling, plan, budget, report, check)
        except UnusableFrames as error:
            first = str(error)
        safer = safer_than(self._usual)
        if safer is None:
            raise BadOutput(self._bad(first), hint="Verify the checkpoint, or try another picture.")
        self.close()
        note = f"{first} in {self._usual.name}; made again in {safer.name}"
        plan = self._ladder(sampling, safer, budget, allow_approximate)
        self._precision = safer
        try:
            made = self._climb(image, sampling, plan, budget, report, check)
        except UnusableFrames as error:
            raise BadOutput(
                self._bad(f"{first} in {self._usual.name}, and {error} in {safer.name}"),
                hint="Verify the checkpoint, or try another picture.",
            ) from error
        finally:
            # Weights cast to the safer type do not come back whole: the next clip loads afresh.
            self.close()
        return dataclasses.replace(made, notes=(note, *made.notes))

    def close(self) -> None:
        """Drop the networks and give the device's memory back."""
        if self._pipeline is not None:
            clear(self._pipeline)
        self._pipeline = None
        self._placed = None
        self._precision = self._usual
        empty_cache()

    def _climb(
        self,
        image: Image,
        sampling: Sampling,
        plan: tuple[Rung, ...],
        budget: int | None,
        report: Report,
        check: Check,
    ) -> Made:
        """The clip by the first rung that does not run out of memory."""
        notes: list[str] = []
        for rung in plan:
            attempt = self._attempt(image, sampling, rung, report, check)
            if attempt is None:
                # Only now is the traceback gone that held the attempt's tensors.
                empty_cache()
                notes.append(f"out of memory with {rung.placement}, {rung.decode_chunk} at once")
                continue
            rendered, load_s = attempt
            if rung.decode_chunk != sampling.decode_chunk:
                notes.append(f"approximate: decoded {rung.decode_chunk} frames at once")
            memory = Memory(rung.placement, budget, rung.peak_bytes, self._measured_peak())
            if budget is not None and (memory.measured_peak_bytes or 0) > budget:
                notes.append("the clip used more GPU memory than the budget")
            precision = self._precision.name
            return Made(rendered, precision, rung.decode_chunk, load_s, memory, tuple(notes))
        raise OutOfMemory(
            f"{sampling.frames} frames at {sampling.width}x{sampling.height} do not fit in memory, "
            f"not even with {plan[-1].placement}",
            hint="Close other programs on the GPU, ask for a smaller size, or --allow-approximate.",
        )

    def _attempt(
        self, image: Image, sampling: Sampling, rung: Rung, report: Report, check: Check
    ) -> tuple[Rendered, float] | None:
        """One try, with the seconds its loading took; None where memory ran out.

        After any exception the pipeline is as new.
        """
        import torch

        chunked = dataclasses.replace(sampling, decode_chunk=rung.decode_chunk)
        made: tuple[Rendered, float] | None = None
        try:
            load_s = self._prepare(rung, report, check)
            assert self._pipeline is not None
            rendered = reference.render(self._pipeline, image, chunked, report=report, check=check)
            made = rendered, load_s
        except torch.OutOfMemoryError:
            return None
        finally:
            if made is None:
                self._recover()
        return made

    def _prepare(self, rung: Rung, report: Report, check: Check) -> float:
        """Have the networks loaded and placed; the seconds that took."""
        import torch

        started = time.perf_counter()
        if self._pipeline is None:
            check()
            report("load", 0, 0)
            self._pipeline = load(self.checkpoint, self.device, self._precision)
        if self._placed != rung.placement:
            if self._placed is not None:
                self._recover()
            place(self._pipeline, rung.placement, self.device)
            self._placed = rung.placement
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        return time.perf_counter() - started

    def _recover(self) -> None:
        """Hooks off, weights in main memory, the VAE in its precision."""
        self._placed = None
        if self._pipeline is not None:
            clear(self._pipeline, self._precision.of_torch())

    def _ladder(
        self,
        sampling: Sampling,
        precision: Precision,
        budget: int | None,
        allow_approximate: bool,
    ) -> tuple[Rung, ...]:
        self._sizes = self._sizes or sizes_of(self.checkpoint)
        free, total = self._device_memory()
        return ladder(
            self._sizes,
            sampling,
            itemsize=precision.itemsize,
            on_gpu=self.device.startswith("cuda"),
            free=free,
            total=total,
            budget=budget,
            allow_approximate=allow_approximate,
        )

    def _device_memory(self) -> tuple[int | None, int | None]:
        """Bytes this process could have now, and in all. None on the CPU, whose memory can swap."""
        if not self.device.startswith("cuda"):
            return None, None
        import torch

        free, total = torch.cuda.mem_get_info(self.device)
        return free + torch.cuda.memory_reserved(self.device), total

    def _measured_peak(self) -> int | None:
        if not self.device.startswith("cuda"):
            return None
        import torch

        return int(torch.cuda.max_memory_allocated(self.device))

    def _bad(self, what: str) -> str:
        return f"checkpoint {self.checkpoint.name} made unusable frames: {what}"
