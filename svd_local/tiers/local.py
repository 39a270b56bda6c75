"""Stable Video Diffusion in this process: on a CUDA GPU, or on the CPU where that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from svd_local.engine.aliases import DEFAULT_ORDER
from svd_local.engine.blueprint import blueprint_of
from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.checkpoints import resolve, resolve_distilled
from svd_local.engine.fused.kernels.choice import Kernels, Wish, choose
from svd_local.engine.loading import precision_for
from svd_local.engine.session import Session, ways_of
from svd_local.engine.takes import Engine, Stream
from svd_local.engine.verify import require_whole
from svd_local.errors import (
    CheckpointUnavailable,
    SvdLocalError,
    TierFailed,
    TierUnavailable,
)
from svd_local.request import (
    ClipRequest,
    GeneratedParameters,
    generated_parameters,
    output_size,
)
from svd_local.result import Memory
from svd_local.tiers.base import Availability, Frames, Job, Monitor, Plan
from svd_local.tiers.gpus import list_gpus, no_cuda
from svd_local.tiers.hold import Hold
from svd_local.tiers.one_at_a_time import OneAtATime
from svd_local.tiers.reel import frames_of
from svd_local.tiers.speeds import (
    FP8_SPEEDS,
    approximations,
    require_fp8,
    require_speed,
    uncompiled,
)
from svd_local.tiers.terms import (
    assumed,
    decoding,
    library_versions,
    native_of,
    require_kind,
    sampling_of,
    size_warnings,
)

if TYPE_CHECKING:
    from svd_local.engine.download import Offer
    from svd_local.engine.memory import Way

DEFAULT_ENGINE: Engine = "fused"
_CPU_HINT = "To run on the CPU all the same (minutes to hours a clip), add --device cpu."
_OTHERS_HINT = "Other tiers are asked where no checkpoint is named."


class LocalTier:
    """The tier ``local``. Thread-safe: one clip at a time, others wait.

    A clip lasts until its frames were read to their end, or closed: the networks decode meanwhile. The
    thread that asks for the next one, or for ``close``, before that ends the clip.

    A checkpoint stays loaded from clip to clip until another one is asked for, or ``close``.

    Args:
        models_dir: where checkpoints lie; ``tiny-svd`` is made there.
        default_checkpoint: taken where a request names none; None takes svd-xt, else svd.
        vram_budget: most bytes of GPU memory to plan for, where a request says nothing.
        kernels: which GPU kernels of our own to run, see `engine.fused.kernels.choice`.
        allow_download: pull a missing checkpoint when a clip asks for it.
        token: the hub's token, for gated checkpoints.
    """

    id = "local"
    policy = None

    def __init__(
        self,
        *,
        models_dir: Path,
        default_checkpoint: str | None = None,
        vram_budget: int | None = None,
        kernels: Wish = "auto",
        allow_download: bool = False,
        token: str | None = None,
    ) -> None:
        self._models_dir = models_dir
        self._default_checkpoint = default_checkpoint
        self._vram_budget = vram_budget
        self._wish: Wish = kernels
        self._allow_download = allow_download
        self._token = token
        self._one = OneAtATime()
        self._session: Session | None = None
        self._hold = Hold()

    def availability(self, request: ClipRequest | None = None) -> Availability:
        """Whether there is a GPU (or the CPU was asked for) and a checkpoint; torch is not loaded.

        Raises:
            CheckpointUnavailable: the request names a checkpoint that cannot be had, or the one it
                would run on is damaged. Neither falls through: nothing else silently stands in for
                what was named, or hides that an installation needs repair.
        """
        named = None if request is None else request.checkpoint
        on_cpu = request is not None and request.device == "cpu"
        missing = None if on_cpu else no_cuda()
        if missing is not None and named is None:
            # Whatever state the checkpoints are in: nothing here would use them.
            return Availability(False, missing, _CPU_HINT)
        try:
            checkpoint = self._checkpoint(request)
            require_whole(checkpoint)
            have = f"checkpoint {checkpoint.name}"
        except CheckpointUnavailable as error:
            if self._repo_to_pull(error, named or self._default_checkpoint) is None:
                if request is not None and not error.falls_through:
                    raise
                return Availability(False, error.message, error.hint)
            have = "the checkpoint would be downloaded"
        if on_cpu:
            return Availability(True, f"{have}, on the CPU as asked")
        if missing is not None:
            return Availability(False, missing, _CPU_HINT)
        return Availability(True, f"{have}, on {list_gpus()[0].name}")

    def plan(self, request: ClipRequest, monitor: Monitor | None = None) -> Plan:
        """How it would make ``request``; where downloads are allowed, a missing checkpoint is pulled.

        Raises:
            InvalidRequest: a speed that the engine, device or checkpoint does not have; too small a
                memory budget.
            TierUnavailable: no GPU, and the CPU was not asked for.
            CheckpointUnavailable: the checkpoint cannot be had.
            DeviceLost: the GPU was there for an earlier clip, and is no more.
            Cancelled: asked for during the pull, which goes on from there the next time.
        """
        engine = request.engine or DEFAULT_ENGINE
        require_speed(request, engine)
        if request.checkpoint is not None or request.speed == "distilled":
            self.availability(request)  # what was named and cannot be had is the first thing to say
        if request.device != "cpu":
            self._hold.require()
        device = _device(request)
        checkpoint = self._checkpoint(request, pull=monitor or Monitor())
        require_whole(checkpoint)
        require_kind(request, checkpoint)
        if request.speed in FP8_SPEEDS:
            require_fp8(checkpoint)
        native = native_of(checkpoint, request)
        parameters, corrections = generated_parameters(request, native)
        if self._budget(request) is not None:  # one below the smallest plan is refused here
            self._ways(request, checkpoint, device, parameters)
        size = (parameters.width, parameters.height)
        return Plan(
            tier=self.id,
            kind="generated",
            size=size,
            parameters=parameters.to_json(),
            fingerprint={
                "tier": self.id,
                "checkpoint": checkpoint.revision,
                "engine": engine,
                "speed": request.speed,
                "device": device,
                "precision": precision_for(device).name,
                **decoding(engine, parameters.frames),
                "versions": dict(library_versions()),
            },
            fps=parameters.fps,
            output_size=output_size(size, request.resolution),
            corrections=(*corrections, *uncompiled(request, engine)),
            warnings=(
                *assumed(checkpoint, request),
                *size_warnings(parameters, native),
                *approximations(parameters, request.speed),
            ),
            checkpoint=checkpoint.name,
            engine=engine,
            device=device,
            speed=request.speed,
            synthetic=checkpoint.synthetic,
        )

    def checkpoint(self, request: ClipRequest) -> Checkpoint:
        """The checkpoint ``request`` would run on, as it is installed; nothing is pulled.

        Raises:
            CheckpointUnavailable: it is not here, or damaged.
        """
        return self._checkpoint(request)

    def foresee_memory(self, request: ClipRequest) -> Memory:
        """The memory plan ``request`` would run under now, and its predicted peak; nothing is loaded.

        Raises:
            InvalidRequest: the budget is below the smallest plan.
            OutOfMemory: the GPU as a whole is.
            TierUnavailable, CheckpointUnavailable: as ``plan`` does.
        """
        device, checkpoint = _device(request), self._checkpoint(request)
        parameters, _ = generated_parameters(request, native_of(checkpoint, request))
        gpu = list_gpus()[0] if device == "cuda" else None
        way = self._ways(
            request,
            checkpoint,
            device,
            parameters,
            free=None if gpu is None else gpu.free_bytes,
            total=None if gpu is None else gpu.total_bytes,
        )[0]
        return Memory(way.plan, self._budget(request), way.peak_bytes)

    def generate(self, job: Job) -> Frames:
        """Make the frames; a model that the fused engine does not know runs on the reference.

        Returns with the first frame, the others are decoded as they are read. Where the clip then
        turns out to be no good, and is made anew, reading raises `BeginAgain`.

        Raises:
            OutOfMemory: not even the smallest exact memory plan fitted.
            BadOutput: NaN or black frames, twice.
            CheckpointUnavailable: the checkpoint is damaged or went away since the plan.
            DeviceLost: the GPU answers this process no more, from now on.
            TierFailed: anything nobody expected; its cause is the exception as it came.
            Cancelled: the caller asked to stop.
        """
        self._one.end_mine()
        stream = self._stream(job)
        sampling = sampling_of(job.plan.parameters, job.request.speed)
        frames = frames_of(stream, sampling, job.plan)
        self._one.mine_is(stream)
        return frames

    def close(self) -> None:
        """Drop the loaded networks and give the GPU's memory back. Waits for another thread's clip."""
        self._one.end_mine()
        with self._one.alone():
            if self._session is not None and not self._hold.lost:
                self._session.close()  # what is on a lost GPU cannot be taken off it
            self._session = None

    def _stream(self, job: Job) -> Stream:
        """The clip as the engine streams it, nobody else's beside it; errors are the tier's own."""
        plan, request = job.plan, job.request
        try:
            with self._one.alone(job.monitor.check):
                if plan.device == "cuda":
                    self._hold.use()
                session = self._session_for(self._checkpoint(request), plan.device or "cpu")
                return (
                    yield from session.make(
                        job.keyframes[0].image,
                        sampling_of(plan.parameters, request.speed),
                        engine=request.engine or DEFAULT_ENGINE,
                        budget=self._budget(request),
                        allow_approximate=request.allow_approximate,
                        compiled=request.compile is True,
                        report=job.monitor.report,
                        check=job.monitor.check,
                    )
                )
        except SvdLocalError:
            raise
        except ImportError as error:
            raise TierUnavailable(
                f"the local tier needs a library that does not load here: {error}",
                hint="Install svd-local again in a fresh environment; the README says how.",
            ) from error
        except Exception as error:
            if job.plan.device == "cuda":
                self._hold.judge(error)
            raise TierFailed(
                f"the local tier failed on checkpoint {job.plan.checkpoint}: {error!r}",
                hint="This is a bug in svd_local or in a library under it; please report it.",
            ) from error

    def _session_for(self, checkpoint: Checkpoint, device: str) -> Session:
        """The loaded session where it fits, else a new one in its place."""
        session = self._session
        if session is None or (session.checkpoint, session.device) != (checkpoint, device):
            if session is not None:
                session.close()
            session = self._session = Session(checkpoint, device, kernels=self._wish)
        return session

    def _checkpoint(
        self, request: ClipRequest | None, *, pull: Monitor | None = None
    ) -> Checkpoint:
        """The checkpoint a request runs on; fetched where that is allowed and ``pull`` hears of it.

        One that the request names is not replaced by another tier: its absence does not fall through.
        """
        named = None if request is None else request.checkpoint
        wanted = named or self._default_checkpoint
        distilled = request is not None and request.speed == "distilled"
        find = resolve_distilled if distilled else resolve
        pulled: list[str] = []
        try:
            while True:
                try:
                    return find(wanted, self._models_dir)
                except CheckpointUnavailable as error:
                    repo = None if pull is None else self._repo_to_pull(error, wanted)
                    if repo is None or pull is None or repo in pulled:
                        raise
                from svd_local.engine.download import pull as fetch

                fetch(
                    repo,
                    self._models_dir,
                    token=self._token,
                    on_offer=lambda offer: _tell(pull, offer),
                    on_progress=pull.downloading,
                )
                pulled.append(repo)
        except CheckpointUnavailable as error:
            error.falls_through = error.falls_through and named is None and not distilled
            raise

    def _repo_to_pull(self, error: CheckpointUnavailable, wanted: str | None) -> str | None:
        """What to download for ``wanted``, None where nothing may be or nothing would help."""
        if not self._allow_download or type(error) is not CheckpointUnavailable:
            return None
        if error.field == "speed" and error.missing is None:
            return None  # nobody publishes a distilled UNet for that checkpoint
        return error.missing or wanted or DEFAULT_ORDER[0]

    def _budget(self, request: ClipRequest) -> int | None:
        return request.vram_budget or self._vram_budget

    def _ways(
        self,
        request: ClipRequest,
        checkpoint: Checkpoint,
        device: str,
        parameters: GeneratedParameters,
        *,
        free: int | None = None,
        total: int | None = None,
    ) -> Sequence[Way]:
        """The memory plans that ``request`` may run under, the fastest first.

        Raises:
            InvalidRequest: the budget is below the smallest plan.
            OutOfMemory: the GPU's ``total`` is.
        """
        return ways_of(
            request.engine or DEFAULT_ENGINE,
            blueprint_of(checkpoint),
            sampling_of(parameters.to_json(), request.speed),
            itemsize=precision_for(device).itemsize,
            on_gpu=device == "cuda",
            free=free,
            total=total,
            budget=self._budget(request),
            allow_approximate=request.allow_approximate,
            kernels=self._kernels(device),
        )

    def _kernels(self, device: str) -> Kernels:
        """Of our own, those that are to run; whether they work shows only when they are tried."""
        gpu = list_gpus()[0].name if device == "cuda" else None
        return choose(self._wish, gpu, precision_for(device).itemsize)


def _tell(monitor: Monitor, offer: Offer) -> None:
    """Say what a clip is about to download, and under which licence."""
    licence = f"{offer.repo}, licence: {offer.licence or 'none given'} ({offer.licence_url})"
    monitor.downloading(offer.total_bytes - offer.missing_bytes, offer.total_bytes, licence)


def _device(request: ClipRequest) -> str:
    """The device a request runs on.

    Raises:
        TierUnavailable: it is a GPU, and there is none.
    """
    if request.device == "cpu":
        return "cpu"
    missing = no_cuda()
    if missing is not None:
        instead = request.tier == "auto" and not request.open_to_others
        raise TierUnavailable(missing, hint=f"{_CPU_HINT} {_OTHERS_HINT}" if instead else _CPU_HINT)
    return "cuda"
