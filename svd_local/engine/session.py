"""A loaded checkpoint that makes clip after clip, each in the fastest way that fits.

Running out of memory leads to the next smaller exact way; NaN or black frames lead to one more try in
a safer precision; a model that the fused engine does not know runs on the reference engine. Frames are
handed out as they are decoded; where a clip goes wrong after that, the ones handed out are void and the
clip begins again (see `takes`). Whatever was raised, and wherever its receiver stopped reading, the next
clip finds the networks as new.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import weakref
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svd_local.engine.blueprint import Blueprint, blueprint_of
from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.fused.fp8 import require_fp8
from svd_local.engine.fused.kernels.choice import NONE, Kernels, Wish, choose
from svd_local.engine.fused.kernels.proof import proven
from svd_local.engine.fused.unknown import UnknownPart
from svd_local.engine.fused_plan import FusedWay, fused_ladder
from svd_local.engine.fused_runner import FusedRunner
from svd_local.engine.loading import Precision, load, precision_for, safer_than
from svd_local.engine.memory import Way, ladder
from svd_local.engine.placement import empty_cache
from svd_local.engine.reference_runner import ReferenceRunner
from svd_local.engine.runner import Runner
from svd_local.engine.takes import Engine, Made, Stream, Take
from svd_local.engine.values import (
    Check,
    Phases,
    Report,
    Sampling,
    UnusableFrames,
    ignore_check,
    ignore_report,
)
from svd_local.errors import BadOutput, InvalidRequest, OutOfMemory
from svd_local.result import Memory

if TYPE_CHECKING:
    from diffusers import StableVideoDiffusionPipeline
    from PIL.Image import Image

    from svd_local.engine.values import Pixels


def ways_of(
    engine: Engine,
    blueprint: Blueprint,
    sampling: Sampling,
    *,
    allow_approximate: bool,
    kernels: Kernels = NONE,
    **limits: Any,
) -> Sequence[Way]:
    """An engine's ways to make a clip, the fastest that fits first; after it only smaller ones.

    Args:
        engine: the one to run.
        blueprint: of the checkpoint.
        sampling: the clip's parameters.
        allow_approximate: leave to change pixels, of which the fused engine makes no use.
        kernels: of our own, which the fused engine runs.
        limits: ``itemsize``, ``on_gpu``, ``free``, ``total`` and ``budget`` as of `memory.ladder`.

    Raises:
        InvalidRequest: the budget is below the smallest way; says the least that would do.
        OutOfMemory: the device as a whole is.
    """
    if engine == "fused":
        return fused_ladder(blueprint, sampling, kernels=kernels, **limits)
    return ladder(blueprint.sizes, sampling, allow_approximate=allow_approximate, **limits)


@dataclass(frozen=True, slots=True)
class _Task:
    """What is asked of one `Session.make`."""

    image: Image
    sampling: Sampling
    budget: int | None
    allow_approximate: bool
    compiled: bool
    report: Report
    check: Check


class Session:
    """One checkpoint on one device. Not thread-safe: one clip at a time.

    The networks load with the first clip and stay until ``close``, or until a clip asks for the other
    engine.

    Args:
        checkpoint: what to load.
        device: where to run it.
        precision: the device's usual one where None.
        kernels: which of our own the fused engine is to run, see `fused.kernels.choice`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str,
        precision: Precision | None = None,
        kernels: Wish = "auto",
    ) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self._wish: Wish = kernels
        self._usual = precision or precision_for(device)
        self._precision = self._usual
        self._blueprint: Blueprint | None = None
        self._runner: Runner | None = None
        self._unknown: UnknownPart | None = None
        self._open: weakref.ref[Stream] | None = None
        self.counts = True
        """Whether living tensors are followed on the CPU, which takes some time; GPUs know their peak."""

    def make(
        self,
        image: Image,
        sampling: Sampling,
        *,
        engine: Engine = "reference",
        budget: int | None = None,
        allow_approximate: bool = False,
        compiled: bool = False,
        report: Report = ignore_report,
        check: Check = ignore_check,
    ) -> Stream:
        """One clip from ``image``, which is RGB and of the sampling's size.

        Nothing is done until the stream is read. Read it to its end, or close it; one that is still
        open is closed by the next call.

        Args:
            image: the conditioning picture.
            sampling: the clip's parameters.
            engine: the one to run; a model that ``fused`` does not know runs on ``reference``, unless
                features are to be cached or layers to be in 8 bits.
            budget: most bytes of device memory to plan for.
            allow_approximate: decode fewer frames at once where nothing exact fits.
            compiled: have the fused engine's steps compiled where that can gain anything (see
                `fused.regions`); the first clip of a size takes the longer for it.
            report: told of progress.
            check: raises to stop.

        Returns:
            Takes with their frames, at its end how the clip was made; see `takes`. Reading it raises
            what follows, and whatever ``report`` and ``check`` raise.

        Raises:
            InvalidRequest: the budget is below the smallest way, and nothing was loaded; or features
                are to be cached or layers to be in 8 bits, which only the fused engine does, and it
                does not run this model; or in 8 bits on a GPU that has none.
            OutOfMemory: not even the smallest way fitted.
            BadOutput: NaN or black frames, also in the safer precision if there is one.
            CheckpointUnavailable: from loading.
        """
        self._shut()
        task = _Task(image, sampling, budget, allow_approximate, compiled, report, check)
        stream = self._make(task, engine)
        self._open = weakref.ref(stream)
        return stream

    def close(self) -> None:
        """Drop the networks and give the device's memory back; an open stream ends."""
        self._shut()
        self._drop()

    def _shut(self) -> None:
        stream = None if self._open is None else self._open()
        if stream is not None:
            stream.close()
        self._open = None

    def _drop(self) -> None:
        if self._runner is not None:
            self._runner.close()
        self._runner = None
        self._precision = self._usual
        empty_cache()

    def _make(self, task: _Task, engine: Engine) -> Stream:
        if task.sampling.fp8:
            require_fp8(self.device)
        if engine == "fused" and self._unknown is None:
            try:
                return (yield from self._twice(task, "fused"))
            except UnknownPart as error:
                self._unknown = error
        if task.sampling.caching is not None or task.sampling.fp8:
            raise self._not_approximate(task.sampling)
        made = yield from self._twice(task, "reference")
        if engine == "fused" and self._unknown is not None:
            note = f"ran on the reference engine: {self._unknown.message}"
            made = dataclasses.replace(made, notes=(note, *made.notes))
        return made

    def _twice(self, task: _Task, engine: Engine) -> Stream:
        """The clip in the usual precision, and where that gives rubbish in a safer one."""
        ways = self._ways(task, engine, self._usual)
        try:
            return (yield from self._climb(task, engine, ways))
        except UnusableFrames as error:
            first = str(error)
        safer = safer_than(self._usual)
        if safer is None:
            raise BadOutput(self._bad(first), hint="Verify the checkpoint, or try another picture.")
        self._drop()
        note = f"{first} in {self._usual.name}; made again in {safer.name}"
        ways = self._ways(task, engine, safer)
        self._precision = safer
        try:
            made = yield from self._climb(task, engine, ways)
        except UnusableFrames as error:
            raise BadOutput(
                self._bad(f"{first} in {self._usual.name}, and {error} in {safer.name}"),
                hint="Verify the checkpoint, or try another picture.",
            ) from error
        finally:
            # Weights cast to the safer type do not come back whole: the next clip loads afresh.
            self._drop()
        return dataclasses.replace(made, notes=(note, *made.notes))

    def _climb(self, task: _Task, engine: Engine, ways: Sequence[Way]) -> Stream:
        """The clip by the first way that does not run out of memory."""
        sampling, budget = task.sampling, task.budget
        notes: list[str] = []
        for way in ways:
            take = Take(engine, self._precision.name, way.decode_chunk)
            attempt = yield from self._attempt(task, way, take)
            if attempt is None:
                # Only now is the traceback gone that held the attempt's tensors.
                empty_cache()
                notes.append(f"out of memory with {_name(way)}")
                continue
            phases, load_s, peak = attempt
            way = self._as_it_ran(way, notes)
            if way.decode_chunk not in (None, sampling.decode_chunk):
                notes.append(f"approximate: decoded {way.decode_chunk} frames at once")
            plan, said = self._with_kernels(way.plan, take.engine)
            notes += said
            memory = Memory(plan, budget, way.peak_bytes, peak)
            if budget is not None and (peak or 0) > budget:
                notes.append("the clip used more memory than the budget")
            return Made(
                take.engine,
                take.precision,
                take.decode_chunk,
                phases=phases,
                load_s=load_s,
                memory=memory,
                notes=tuple(notes),
            )
        approximate = ", or --allow-approximate" if engine == "reference" else ""
        raise OutOfMemory(
            f"{sampling.frames} frames at {sampling.width}x{sampling.height} do not fit in memory, "
            f"not even with {_name(ways[-1])}",
            hint=f"Close other programs on the GPU, ask for a smaller size{approximate}.",
        )

    def _as_it_ran(self, way: Way, notes: list[str]) -> Way:
        """``way``, and what is to be told of its compilation."""
        if not isinstance(way, FusedWay) or not way.compiled:
            return way
        assert isinstance(self._runner, FusedRunner)
        compilation = self._runner.compilation
        told = compilation.told()
        notes.extend([] if told is None else [told])
        return way if compilation.failure is None else dataclasses.replace(way, compiled=False)

    def _attempt(
        self, task: _Task, way: Way, take: Take
    ) -> Generator[Take | Pixels, None, tuple[Phases, float, int | None] | None]:
        """One try: its seconds by phase and of loading, and its peak; None where memory ran out.

        The take is announced with its first frame: till then nothing that was handed out is void.
        After any exception, and where the receiver closes the stream, the networks are as new.
        """
        import torch

        done = False
        try:
            runner, load_s = self._prepared(task, take.engine, way)
            frames = runner.render(
                way,
                task.image,
                task.sampling,
                report=task.report,
                check=task.check,
                counts=self.counts,
            )
            with contextlib.closing(frames):
                first = next(frames)
                yield take
                yield first
                del first
                phases, peak = yield from frames
            done = True
        except torch.OutOfMemoryError:
            return None
        finally:
            if not done and self._runner is not None:
                self._runner.recover()
        return phases, load_s, peak

    def _prepared(self, task: _Task, engine: Engine, way: Way) -> tuple[Runner, float]:
        """The networks loaded and placed, and the seconds that took."""
        import torch

        started = time.perf_counter()
        if self._runner is not None and self._runner.engine != engine:
            # Folding leaves nothing for the reference to run: it takes the files again.
            precision = self._precision
            self._drop()
            self._precision = precision
        if self._runner is None:
            task.check()
            task.report("load", 0, 0)
            self._runner = self._load(engine)
        self._runner.prepare(way)
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        return self._runner, time.perf_counter() - started

    def _load(self, engine: Engine) -> Runner:
        """The networks from their files, folded where the fused engine is to run them.

        Raises:
            UnknownPart: they cannot be folded; the reference engine keeps what was loaded.
        """
        pipeline = load(self.checkpoint, self.device, self._precision)
        if engine == "fused":
            try:
                return FusedRunner(pipeline, self.device, self._kernels(self._precision)[0])
            except UnknownPart:
                self._runner = self._reference(pipeline)
                raise
        return self._reference(pipeline)

    def _reference(self, pipeline: StableVideoDiffusionPipeline) -> Runner:
        return ReferenceRunner(pipeline, self.device, self._precision.of_torch())

    def _ways(self, task: _Task, engine: Engine, precision: Precision) -> Sequence[Way]:
        self._blueprint = self._blueprint or blueprint_of(self.checkpoint)
        free, total = self._device_memory()
        ways = ways_of(
            engine,
            self._blueprint,
            task.sampling,
            allow_approximate=task.allow_approximate,
            itemsize=precision.itemsize,
            on_gpu=self.device.startswith("cuda"),
            free=free,
            total=total,
            budget=task.budget,
            kernels=self._kernels(precision)[0] if engine == "fused" else NONE,
        )
        return [_compiled(way) for way in ways] if task.compiled else ways

    def _kernels(self, precision: Precision) -> tuple[Kernels, tuple[str, ...]]:
        """Of our own, those that are wished for and work on this GPU; and what does not."""
        if not self.device.startswith("cuda") or self._wish == "none":
            return NONE, ()
        import torch

        gpu = torch.cuda.get_device_name(self.device)
        chosen = choose(self._wish, gpu, precision.itemsize)
        return proven(chosen, self.device, precision.of_torch())

    def _with_kernels(self, plan: str, engine: Engine) -> tuple[str, tuple[str, ...]]:
        """A plan's name with the kernels that ran, and what is to be said of those that did not."""
        if engine != "fused":
            return plan, ()
        kernels, notes = self._kernels(self._precision)
        names = ", ".join(kernels.widths())
        return f"{plan}; kernels: {names}" if names else plan, notes

    def _device_memory(self) -> tuple[int | None, int | None]:
        """Bytes this process could have now, and in all. None on the CPU, whose memory can swap."""
        if not self.device.startswith("cuda"):
            return None, None
        import torch

        free, total = torch.cuda.mem_get_info(self.device)
        return free + torch.cuda.memory_reserved(self.device), total

    def _not_approximate(self, sampling: Sampling) -> InvalidRequest:
        why = "" if self._unknown is None else f": {self._unknown.message}"
        what = "caches no features" if sampling.caching is not None else "has no layers in 8 bits"
        return InvalidRequest(
            f"speed: checkpoint {self.checkpoint.name} runs on the reference engine, which {what}{why}",
            hint="Write --speed exact.",
            field="speed",
        )

    def _bad(self, what: str) -> str:
        return f"checkpoint {self.checkpoint.name} made unusable frames: {what}"


def _compiled(way: Way) -> Way:
    """The same way with its steps compiled, where that can gain anything."""
    if isinstance(way, FusedWay) and way.worth_compiling:
        return dataclasses.replace(way, compiled=True)
    return way


def _name(way: Way) -> str:
    """A way in a sentence; its decoding where that is in chunks."""
    return (
        way.plan if way.decode_chunk is None else f"{way.plan}, {way.decode_chunk} frames at once"
    )
