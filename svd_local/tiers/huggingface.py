"""The Hugging Face tier: a picture goes to an inference provider, a video comes back."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import os
import time
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from svd_local.errors import RemoteFailed, SvdLocalError, TierBusy, TierUnavailable
from svd_local.request import ClipRequest, Native, generated_parameters, output_size
from svd_local.result import Correction
from svd_local.tiers.base import Availability, Frames, Job, Plan
from svd_local.tiers.remote.breaker import Breaker
from svd_local.tiers.remote.call import Call, Over, supervise
from svd_local.tiers.remote.door import Door
from svd_local.tiers.remote.gate import Gate
from svd_local.tiers.remote.pace import Pace
from svd_local.tiers.remote.policy import Policy
from svd_local.tiers.remote.refusals import clean

if TYPE_CHECKING:
    from PIL.Image import Image

    from svd_local.tiers.remote.video import Video

PROVIDERS = ("fal-ai", "together", "wavespeed")
"""The providers through which the hub serves image-to-video."""
POLICY = Policy(deadline_s=900.0, resend_dropped=False)
"""A job may take minutes in a queue, and each is paid for."""

_TASK = "image-to-video"
_HOSTS = ("huggingface.co", "*.huggingface.co")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = frozenset({"1", "on", "yes", "true"})
_SMALL_PICTURE = 44_000
"""Bytes of a picture for Together, which takes 60 kB once they are written as text."""
_LIBRARY_FAILS = (ValueError, RuntimeError, LookupError, TypeError, AttributeError, OSError)
"""What the library raises where a provider's answer is not as it expects."""
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


class HuggingFaceTier:
    """Clips by ``huggingface_hub.InferenceClient.image_to_video``.

    Args:
        token: the hub's, beginning with ``hf_``; None takes the hub's own login.
        consent_for_auto: whether ``auto`` may send pictures away; else only a request that names the
            tier does.
        model: repository of an image-to-video model.
        provider: one of ``PROVIDERS``, or ``auto`` for the first of them that serves the model.
        deadline_s: seconds for one clip, in place of the policy's.
        policy: its patience.
        route: host -> base URL to go to in its stead.
    """

    id = "huggingface"

    def __init__(
        self,
        token: str | None,
        consent_for_auto: bool,
        model: str,
        provider: str = "auto",
        *,
        deadline_s: float | None = None,
        policy: Policy = POLICY,
        route: Mapping[str, str] | None = None,
    ) -> None:
        self._token = token
        self._consent = consent_for_auto
        self.model, self.provider = model, provider
        self.policy = policy
        if deadline_s is not None:
            self.policy = dataclasses.replace(policy, deadline_s=deadline_s)
        self._route = dict(route or {})
        self._pace = Pace()
        self._breaker = Breaker("Hugging Face")

    def availability(self, request: ClipRequest | None = None) -> Availability:
        """Whether there is a token, and the consent to send pictures away. Nothing is sent."""
        if request is not None and request.no_remote:
            return _away("the request keeps to this machine", "Leave out --no-remote.")
        if any(os.environ.get(name, "").lower() in _TRUE for name in _OFFLINE):
            return _away("the hub is set to be offline", "Unset HF_HUB_OFFLINE.")
        token = self._find_token()
        if token is None:
            return _away("no Hugging Face token is set", "Set HUGGING_FACE_TOKEN to one.")
        if not token.startswith("hf_"):
            return _away(
                "the token is none of Hugging Face's, which begin with hf_",
                "Set HUGGING_FACE_TOKEN to a token from huggingface.co/settings/tokens.",
            )
        named = request is not None and request.tier == self.id
        if not (named or self._consent):
            return _away(
                "there is a token, but no consent to send pictures away",
                "Name --tier huggingface, or set HUGGING_FACE_TOKEN or SVD_LOCAL_ALLOW_REMOTE=1.",
            )
        return Availability(
            True, f"sends the picture to {self.model} on Hugging Face", leaves_machine=True
        )

    def plan(self, request: ClipRequest) -> Plan:
        """What will be asked for. What the request leaves open is the model's own affair, and how
        many frames of which size and rate come back is known only then: ``Frames`` says so.
        """
        may = self.availability(request)
        if not may.available:
            raise TierUnavailable(may.reason, hint=may.hint)
        self._breaker.check()
        values, corrections = generated_parameters(request, Native())
        asked = {
            "frames": values.frames if request.frames is not None else None,
            "steps": values.steps if request.steps is not None else None,
            "guidance": max(values.guidance) if request.guidance is not None else None,
        }
        size = (values.width, values.height)
        return Plan(
            tier=self.id,
            kind="generated",
            size=size,
            parameters={
                "model": self.model,
                "provider": self.provider,
                "prompt": request.prompt,
                **asked,
                "seed": request.seed,
                "width": size[0],
                "height": size[1],
            },
            fingerprint={"model": self.model, "provider": self.provider},
            fps=values.fps,
            output_size=output_size(size, request.resolution),
            corrections=tuple(c for c in corrections if c.field != "duration")
            + _left_to_the_service(request),
            checkpoint=self.model,
            device="remote",
            leaves_machine=True,
        )

    def generate(self, job: Job) -> Frames:
        """Send the picture, wait for the video, prove that it is one.

        Raises:
            TierBusy: throttled, loading, or no video before the deadline.
            TierUnavailable: token, credit, licence or model are not what the service wants.
            RemoteFailed: it failed, or what came back is no video.
            Cancelled: the caller asked to stop. A job the provider has begun goes on there.
        """
        from svd_local.tiers.remote.video import proven

        token = self._find_token()
        if token is None or not job.keyframes:
            raise TierUnavailable("no Hugging Face token is set", hint="Set HUGGING_FACE_TOKEN.")
        call = Call(self.policy.deadline_s)
        notes = _Notes(job, call)

        def work() -> tuple[str, bytes]:
            gate = self._gate(token)
            with contextlib.closing(Door(call, self.policy, gate, self._pace)) as door:
                return self._ask(door, token, job)

        with self._breaker.watching():
            provider, data = supervise(call, work, job.monitor, self._late, notes.tick)
            video = proven(data, "Hugging Face", job.monitor)
        return self._frames(job, provider, video)

    def close(self) -> None:
        """Nothing is held between clips."""

    def _find_token(self) -> str | None:
        if self._token is not None:
            return self._token
        import huggingface_hub

        return huggingface_hub.get_token()

    def _gate(self, token: str) -> Gate:
        hub = urllib.parse.urlsplit(_endpoint()).hostname or ""
        return Gate(
            who="Hugging Face",
            home=(*_HOSTS, hub),
            paths={hub: "/api/models/*"},
            authorization=f"Bearer {token}",
            downloads_from_anywhere=True,
            advice=_ADVICE,
            secrets=(token,),
            route=self._route,
        )

    def _late(self) -> TierBusy:
        return TierBusy(
            f"Hugging Face made no video of {self.model} within {self.policy.deadline_s:g} s",
            hint="Try again later, or use another tier.",
        )

    def _ask(self, door: Door, token: str, job: Job) -> tuple[str, bytes]:
        """The provider and what it sent. Runs in a thread; everything of the hub happens in here."""
        from huggingface_hub import InferenceClient

        from svd_local.tiers.remote.hub import through
        from svd_local.tiers.remote.library import http_library

        provider = self._choose_provider(door)
        asked = job.plan.parameters
        picture = _picture(job.keyframes[0].image, provider)
        try:
            with through(door):
                client = InferenceClient(provider=provider, token=token)  # type: ignore[arg-type]
                video = client.image_to_video(
                    picture,
                    model=self.model,
                    prompt=asked["prompt"],
                    num_frames=asked["frames"],
                    num_inference_steps=asked["steps"],
                    guidance_scale=asked["guidance"],
                    seed=_seed(asked["seed"]),
                )
        except (SvdLocalError, Over):
            raise
        except TimeoutError as error:
            raise TierBusy(
                f"{provider} gave up: {clean(str(error), (token,))}", hint="Try again later."
            ) from None
        except (*_LIBRARY_FAILS, http_library().HTTPError) as error:
            words = clean(f"{type(error).__name__}: {error}", (token,))
            raise RemoteFailed(
                f"{provider} made no video of {self.model}: {words}",
                hint="Try again, or set SVD_LOCAL_HF_PROVIDER or SVD_LOCAL_HF_MODEL to another.",
            ) from None
        return provider, video

    def _choose_provider(self, door: Door) -> str:
        """The one that was set, or the first that serves the model's pictures as videos.

        The library's own choice takes the model's first provider, whatever that provider makes of it.

        Raises:
            TierUnavailable: none does.
        """
        if self.provider != "auto":
            return self.provider
        route = f"{_endpoint()}/api/models/{self.model}?expand=inferenceProviderMapping"
        document = door.json("GET", route)
        found = document.get("inferenceProviderMapping") if isinstance(document, dict) else None
        for name in _serving(found):
            if name in PROVIDERS:
                return name
        raise TierUnavailable(
            f"no provider of Hugging Face makes videos with {self.model}", hint=_ADVICE[404]
        )

    def _frames(self, job: Job, provider: str, video: Video) -> Frames:
        """The video as frames, with what the service really made of the request."""
        asked, info = job.plan.parameters, video.info
        notes = [
            f"{provider} made {info.frames} frames of {info.width}x{info.height}"
            f" at {info.fps:g} a second with {self.model}"
        ]
        if asked["frames"] not in (None, info.frames):
            notes.append(f"{asked['frames']} frames were asked for")
        if video.cut_to_shape(*job.plan.size):
            notes.append("its frames are cut in the middle to the shape asked for")
        width, height = video.size
        return Frames(
            count=info.frames,
            width=width,
            height=height,
            chunks=video,
            warnings=("; ".join(notes),),
            engine=provider,
            fps=info.fps,
        )


class _Notes:
    """Tells the caller twice a second what is being waited for."""

    def __init__(self, job: Job, call: Call) -> None:
        self._job, self._call, self._next = job, call, 0.0

    def tick(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.5
            self._job.monitor.report("denoise", note=self._call.note or "waiting for the service")


def _away(reason: str, hint: str) -> Availability:
    return Availability(False, reason, hint, leaves_machine=True)


def _endpoint() -> str:
    """The hub's address, or that of the mirror which HF_ENDPOINT names, as the library takes it."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _serving(mapping: Any) -> list[str]:
    """The providers in a model's mapping that make videos with it. It comes in two shapes."""
    if isinstance(mapping, dict):
        entries = [{**entry, "provider": name} for name, entry in mapping.items() if entry]
    else:
        entries = mapping if isinstance(mapping, list) else []
    return [
        str(entry.get("provider"))
        for entry in entries
        if entry.get("task") == _TASK and entry.get("status") != "error"
    ]


def _seed(seed: int | None) -> int | None:
    """Services take seeds of 32 bits."""
    return None if seed is None else seed % 2**32


def _left_to_the_service(request: ClipRequest) -> tuple[Correction, ...]:
    """What the request says and the service does not take."""
    why = "the service decides that itself"
    fields = ("fps", "duration", "motion", "noise")
    return tuple(
        Correction(name, getattr(request, name), None, why)
        for name in fields
        if getattr(request, name) is not None
    )


def _picture(image: Image, provider: str) -> bytes | str:
    """The keyframe as the provider takes it: a JPEG, which is what the library says it is."""
    if provider != "together":
        return _jpeg(image, 95)
    for quality in (90, 75, 60, 45, 30):
        data = _jpeg(image, quality)
        if len(data) <= _SMALL_PICTURE:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def _jpeg(image: Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
