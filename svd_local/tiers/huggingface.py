"""The Hugging Face tier: a picture or words go to an inference provider, a video comes back."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from svd_local.errors import RemoteFailed, TierBusy, TierUnavailable
from svd_local.request import ClipRequest, Native, generated_parameters, output_size
from svd_local.result import Correction
from svd_local.tiers.base import Availability, Frames, Job, Monitor, Plan
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote.call import Call, supervise
from svd_local.tiers.remote.door import Door
from svd_local.tiers.remote.gate import Gate
from svd_local.tiers.remote.hub_work import PROVIDERS, HubWork, endpoint
from svd_local.tiers.remote.pace import Pace, ledger_name

if TYPE_CHECKING:
    from PIL.Image import Image

    from svd_local.keyframe.types import Keyframe
    from svd_local.tiers.remote.video import Video

T = TypeVar("T")

POLICY = Policy(deadline_s=900.0, resend_dropped=False)
"""A job may take minutes in a queue, and each is paid for."""

_PAINTING_S = 120.0
"""Most seconds of a clip's deadline for the picture it begins with."""
_VIDEO_BYTES = 32 << 20
"""Room a video may need while it is looked at; those of a few seconds have a tenth of that."""
_HOSTS = ("huggingface.co", "*.huggingface.co")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = frozenset({"1", "on", "yes", "true"})
_TOKEN = re.compile(r"hf_[!-~]+")
_MODEL = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_ADVICE = {
    401: "Make a token at huggingface.co/settings/tokens and set HUGGING_FACE_TOKEN to it.",
    402: "The account's inference credit is used up: add some, or use another tier.",
    403: "Accept the model's licence on its page, and let the token call inference providers.",
    404: "Set SVD_LOCAL_HF_MODEL to an image-to-video model that a provider serves.",
    410: "The provider has withdrawn the model: set SVD_LOCAL_HF_MODEL to another.",
    413: "Ask for a smaller size.",
    422: "Leave out frames, steps or guidance: the model has bounds of its own for them.",
    429: "Too much was sent for this account: wait, or use another tier.",
}
_PAINTING_ADVICE = {
    404: "Set SVD_LOCAL_HF_TEXT2IMAGE to a text-to-image model that a provider serves, or to none.",
    410: "The provider has withdrawn the model: set SVD_LOCAL_HF_TEXT2IMAGE to another, or to none.",
    422: "Set SVD_LOCAL_HF_TEXT2IMAGE to another model, or to none.",
}


class HuggingFaceTier:
    """Clips by ``huggingface_hub.InferenceClient.image_to_video``.

    Words without a picture are painted there first, by ``text_to_image``, where ``text2image`` names
    a model. If that fails for a cause that may pass, the composed illustration is sent instead.

    Args:
        token: the hub's, beginning with ``hf_``; None takes the hub's own login.
        consent_for_auto: whether ``auto`` may send pictures away; else only a request that names the
            tier does.
        model: repository of an image-to-video model.
        provider: one of ``hub_work.PROVIDERS``, or ``auto`` for the first that serves the model.
        text2image: repository of a text-to-image model; None paints nothing.
        deadline_s: seconds for one clip, in place of the policy's.
        policy: its patience.
        route: host -> base URL to go to in its stead.
        paces: folder in which processes agree on how often the service is asked.
    """

    id = "huggingface"

    def __init__(
        self,
        token: str | None,
        consent_for_auto: bool,
        model: str,
        provider: str = "auto",
        *,
        text2image: str | None = None,
        deadline_s: float | None = None,
        policy: Policy = POLICY,
        route: Mapping[str, str] | None = None,
        paces: Path | None = None,
    ) -> None:
        self._token = token
        self._consent = consent_for_auto
        self.model, self.provider, self.text2image = model, provider, text2image
        self.policy = policy
        if deadline_s is not None:
            self.policy = dataclasses.replace(policy, deadline_s=deadline_s)
        self._route = dict(route or {})
        self._paces = paces
        self._pace_of = functools.cache(self._make_pace)

    def availability(self, request: ClipRequest | None = None) -> Availability:
        """Whether there is a token, and the consent to send pictures away. Nothing is sent."""
        if request is not None and request.no_remote:
            return _away("the request keeps to this machine", "Leave out --no-remote.")
        if any(os.environ.get(name, "").lower() in _TRUE for name in _OFFLINE):
            return _away("the hub is set to be offline", "Unset HF_HUB_OFFLINE.")
        token = self._find_token()
        if token is None:
            return _away("no Hugging Face token is set", "Set HUGGING_FACE_TOKEN to one.")
        if not _TOKEN.fullmatch(token):
            return _away(
                "the token is none of Hugging Face's, which begin with hf_",
                "Set HUGGING_FACE_TOKEN to a token from huggingface.co/settings/tokens.",
            )
        if (wrong := self._wrongly_set()) is not None:
            return wrong
        named = request is not None and request.tier == self.id
        if not (named or self._consent):
            return _away(
                "there is a token, but no consent to send pictures away",
                "Name --tier huggingface, or set HUGGING_FACE_TOKEN or SVD_LOCAL_ALLOW_REMOTE=1.",
            )
        return Availability(
            True, f"sends picture and words to {self.model} on Hugging Face", leaves_machine=True
        )

    def plan(self, request: ClipRequest, monitor: Monitor | None = None) -> Plan:
        """What will be asked for. What the request leaves open is the model's own affair, and how
        many frames of which size and rate come back is known only then: ``Frames`` says so.
        """
        may = self.availability(request)
        if not may.available:
            raise TierUnavailable(may.reason, hint=may.hint)
        values, corrections = generated_parameters(request, Native())
        asked = {
            "frames": values.frames if request.frames is not None else None,
            "steps": values.steps if request.steps is not None else None,
            "guidance": max(values.guidance) if request.guidance is not None else None,
        }
        size = (values.width, values.height)
        painter = self.text2image if request.image is None and not request.images else None
        return Plan(
            tier=self.id,
            kind="generated",
            size=size,
            parameters={
                "model": self.model,
                "provider": self.provider,
                "text2image": painter,
                "prompt": request.prompt,
                **asked,
                "seed": request.seed,
                "width": size[0],
                "height": size[1],
            },
            fingerprint={
                "model": self.model,
                "provider": self.provider,
                "text2image": painter,
                **({"output_size": "the service's own"} if _own_size(request) else {}),
            },
            fps=values.fps,
            output_size=output_size(size, request.resolution),
            corrections=tuple(c for c in corrections if c.field != "duration")
            + _left_to_the_service(request),
            checkpoint=self.model,
            device="remote",
            leaves_machine=True,
        )

    def generate(self, job: Job) -> Frames:
        """Have the words painted where there is no picture, send it, wait for the video, prove that
        it is one.

        Raises:
            TierBusy: throttled, loading, or no video before the deadline.
            TierUnavailable: token, credit, licence or model are not what the service wants.
            RemoteFailed: it failed, or what came back is no video.
            MediaFailed, StorageFailed: this machine could not look at a video; nothing was sent.
            Cancelled: the caller asked to stop. A job the provider has begun goes on there.
        """
        from svd_local.media import ffmpeg
        from svd_local.media.files import check_temporary_room
        from svd_local.tiers.remote.video import proven

        token = self._find_token()
        if token is None or not job.keyframes:
            raise TierUnavailable("no Hugging Face token is set", hint="Set HUGGING_FACE_TOKEN.")
        ends = time.monotonic() + self.policy.deadline_s - job.plan.spent_s
        # What would keep a video from being looked at is found out before anything is paid for.
        ffmpeg.version()
        check_temporary_room(_VIDEO_BYTES)
        start = self._start(job, token, ends)
        call, gate = Call(ends - time.monotonic()), self._gate(token, _ADVICE)
        late = _late(f"made no video of {self.model}", self.policy.deadline_s)

        def work(door: Door) -> tuple[str, Video]:
            hub = HubWork(door, token, self.provider)
            made = hub.video(self.model, start.keyframe.image, job.plan.parameters)
            return made.provider, proven(made.data, gate.who, gate.secrets, call.check)

        provider, video = self._within(call, token, job, "denoise", gate, work, late)
        return self._frames(job, provider, video, start)

    def close(self) -> None:
        """Nothing is held between clips."""

    def _find_token(self) -> str | None:
        if self._token is not None:
            return self._token
        import huggingface_hub

        return huggingface_hub.get_token()

    def _make_pace(self, token: str) -> Pace:
        """The pace of an account: allowances are."""
        ledger = None
        if self._paces is not None:
            ledger = self._paces / ledger_name(self.id, endpoint(), token)
        return Pace(self.policy.interval_s, ledger, longest_s=self.policy.longest_rest_s)

    def _wrongly_set(self) -> Availability | None:
        """What of the settings cannot work, whatever the service says."""
        if self.provider not in ("auto", *PROVIDERS):
            return _away(
                f"{self.provider} makes no videos of pictures",
                f"Set SVD_LOCAL_HF_PROVIDER to one of auto, {', '.join(PROVIDERS)}.",
            )
        models = {"SVD_LOCAL_HF_MODEL": self.model, "SVD_LOCAL_HF_TEXT2IMAGE": self.text2image}
        for setting, model in models.items():
            if model is not None and not _MODEL.fullmatch(model):
                return _away(
                    f"{model[:120]!r} is no model of Hugging Face", f"Set {setting} to an org/name."
                )
        if not os.environ.get("HF_ENDPOINT", "https://").startswith("https://"):
            return _away("HF_ENDPOINT is no https address", "Correct or unset HF_ENDPOINT.")
        return None

    def _gate(self, token: str, advice: Mapping[int, str]) -> Gate:
        hub = urllib.parse.urlsplit(endpoint()).hostname or ""
        return Gate(
            who="Hugging Face",
            home=(*_HOSTS, hub),
            paths={hub: "/api/models/*"},
            authorization=f"Bearer {token}",
            downloads_from_anywhere=True,
            advice=advice,
            secrets=(token,),
            route=self._route,
        )

    def _within(
        self,
        call: Call,
        token: str,
        job: Job,
        stage: str,
        gate: Gate,
        work: Callable[[Door], T],
        late: TierBusy,
    ) -> T:
        """What ``work`` returns, done in the call's thread and time with a door of its own."""

        def at_the_door() -> T:
            with contextlib.closing(Door(call, self.policy, gate, self._pace_of(token))) as door:
                return work(door)

        tick = _Notes(job.monitor, call, stage).tick
        return supervise(call, at_the_door, job.monitor, lambda: late, tick)

    def _start(self, job: Job, token: str, ends: float) -> _Start:
        """What the video is to begin with: the job's keyframe, or one painted from its words, in half of
        the time till ``ends`` at most.
        """
        drawn, model = job.keyframes[0], job.plan.parameters["text2image"]
        if model is None or drawn.origin != "illustration" or job.request.prompt is None:
            return _Start(drawn, None)
        words, size, seed = job.request.prompt, job.plan.size, job.plan.parameters["seed"]
        most_s = round(min(_PAINTING_S, max(0.0, ends - time.monotonic()) / 2), 1)
        call, late = Call(most_s), _late(f"painted no picture with {model}", most_s)
        gate = self._gate(token, {**_ADVICE, **_PAINTING_ADVICE})
        try:
            provider, image = self._within(
                call,
                token,
                job,
                "keyframe",
                gate,
                lambda door: HubWork(door, token, self.provider).picture(model, words, size, seed),
                late,
            )
        except (TierBusy, RemoteFailed) as error:
            return _Start(drawn, None, f"the keyframe is an illustration: {error.message}")
        return _Start(_painted(image, size), model, f"{provider} painted the words with {model}")

    def _frames(self, job: Job, provider: str, video: Video, start: _Start) -> Frames:
        """The video as frames, with what the service really made of the request."""
        asked, info = job.plan.parameters, video.info
        notes = [
            f"{provider} made {info.frames} frames of {info.width}x{info.height}"
            f" at {info.fps:g} a second with {self.model}"
        ]
        if asked["frames"] not in (None, info.frames):
            notes.append(f"{asked['frames']} frames were asked for")
        own = _own_size(job.request)
        if not own and video.cut_to_shape(*job.plan.size):
            notes.append("its frames are cut in the middle to the shape asked for")
        width, height = video.size
        even = max(width - width % 2, 2), max(height - height % 2, 2)
        if own and even != video.size:
            notes.append(
                f"they are scaled to {even[0]}x{even[1]}: few programs play a video of odd sides"
            )
        return Frames(
            count=video.count,
            width=width,
            height=height,
            chunks=video.frames(job.monitor),
            warnings=(*filter(None, [start.note]), "; ".join(notes), *video.bent),
            ran={} if start.model == asked["text2image"] else {"text2image": start.model},
            engine=provider,
            fps=video.fps,
            output_size=even if own else None,
            ready=video.ready if own else None,
            keyframe=start.keyframe,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Start:
    """The picture a video begins with, the model that painted it, and what is to be said of it."""

    keyframe: Keyframe
    model: str | None
    note: str = ""


class _Notes:
    """Tells the caller twice a second what is being waited for."""

    def __init__(self, monitor: Monitor, call: Call, stage: str) -> None:
        self._monitor, self._call, self._stage, self._next = monitor, call, stage, 0.0

    def tick(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.5
            self._monitor.report(self._stage, note=self._call.note or "waiting for the service")


def _late(what: str, seconds: float) -> TierBusy:
    return TierBusy(
        f"Hugging Face {what} within {seconds:g} s", hint="Try again later, or use another tier."
    )


def _own_size(request: ClipRequest) -> bool:
    """Whether the file is to have the size the service makes: where none is asked for."""
    return request.size is None and request.resolution == "native"


def _painted(image: Image, size: tuple[int, int]) -> Keyframe:
    from svd_local.keyframe.fit import fit
    from svd_local.keyframe.types import Keyframe

    fitted = fit(image, size)
    return Keyframe(fitted, hashlib.sha256(fitted.tobytes()).hexdigest(), "text2image")


def _away(reason: str, hint: str) -> Availability:
    return Availability(False, reason, hint, leaves_machine=True)


def _left_to_the_service(request: ClipRequest) -> tuple[Correction, ...]:
    """What the request says and the service does not take."""
    why = "the service decides that itself"
    fields = ("fps", "duration", "motion", "noise")
    return tuple(
        Correction(name, getattr(request, name), None, why)
        for name in fields
        if getattr(request, name) is not None
    )
