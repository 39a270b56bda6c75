"""The webui tier: a web UI's server makes the pictures, or all of the frames where it can."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svd_local.errors import RemoteFailed, TierBusy, TierUnavailable
from svd_local.request import ClipRequest, Native, generated_parameters, output_size
from svd_local.tiers.base import Availability, Frames, Job, Monitor, Plan
from svd_local.tiers.image_sequence import ImageSequenceTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote.address import Address
from svd_local.tiers.remote.pace import Pace, ledger_name
from svd_local.tiers.remote.webui_api import Server
from svd_local.tiers.remote.webui_work import Way, Work

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from svd_local.keyframe.types import Keyframe

POLICY = Policy(deadline_s=600.0, tries=3, connect_s=5.0)

_REMEMBERED_S = 30.0
"""How long it is known what answers, or that nobody does in time where the server names no time."""
_LOOK_UP_S = 0.1
_ROUTE = re.compile(r"/(sdapi(/.*)?|docs)/?(#.*)?$")
_SETTING = "STABLE_DIFFUSION_LOCAL_URL"
_STRENGTH = 0.35
"""Denoising strength of a variation: the same picture, a little later."""
_MOST_PICTURES = 3
_PAINTED_PIXELS = 1024 * 576
"""What these servers' models paint well; larger files are enlarged here."""
_STEPS = {"fast": 15, "standard": 25, "high": 30}
_SVD_MODELS = {"svd": "SVD 1.0", "svd-xt": "SVD XT 1.0", "svd-xt-1.1": "SVD XT 1.1"}
_ADVICE = {
    401: "Set STABLE_DIFFUSION_LOCAL_AUTH to user:password, as --api-auth names them.",
    403: "Set STABLE_DIFFUSION_LOCAL_AUTH, or let the server's proxy pass /sdapi.",
    404: "Start the web UI with --api, and check STABLE_DIFFUSION_LOCAL_URL.",
    422: "The server takes no such parameter or script: update it.",
    429: "The server is at other work: try again later.",
    500: "The server's own log says more; a smaller --size needs less of its memory.",
}
_ADVICE_ON_QUESTIONS = {
    **_ADVICE,
    422: "Update the server.",
    500: "The server's own log says more.",
}


class WebUITier:
    """Clips by an A1111-style server.

    SD.Next runs Stable Video Diffusion itself, and its frames are the clip. Every other server paints:
    a first picture from the words (or the request's own picture), then variations of it, which are
    animated here like any stills.

    Args:
        url: the server's base URL; None where there is none.
        auth: ``user:password`` for HTTP Basic.
        deadline_s: seconds for one clip, in place of the policy's.
        policy: its patience.
        paces: folder in which processes agree on how often the server is asked.
    """

    id = "webui"

    def __init__(
        self,
        url: str | None,
        auth: str | None = None,
        *,
        deadline_s: float | None = None,
        policy: Policy = POLICY,
        paces: Path | None = None,
    ) -> None:
        if deadline_s is not None:
            policy = dataclasses.replace(policy, deadline_s=deadline_s)
        self.policy = policy
        self._set = url is not None
        self._address = None if url is None else Address.parse(_without_route(url), auth)
        self._way: Way | None = None
        if self._address is not None:
            user = (auth or self._address.auth or "").partition(":")[0]
            ledger = None
            if paces is not None:
                ledger = paces / ledger_name(self.id, self._address.base, user)
            pace = Pace(policy.interval_s, ledger, longest_s=policy.longest_rest_s)
            self._way = Way(self._address.base, self._address.gate(_ADVICE, _SETTING), policy, pace)
        self._asking = threading.Lock()
        self._known: _Known | None = None
        self._lacks_svd = False

    def availability(self, request: ClipRequest | None = None) -> Availability:
        """Whether a server is set. Whether it answers is found by ``plan``."""
        address = self._address
        if address is None:
            reason = "no web UI is set"
            if self._set:
                reason = "STABLE_DIFFUSION_LOCAL_URL is no address of a server"
            return Availability(
                False, reason, "Set STABLE_DIFFUSION_LOCAL_URL to one, as http://127.0.0.1:7860."
            )
        away = not address.on_this_machine
        if away and request is not None and request.no_remote:
            return Availability(
                False,
                f"{address.shown} is another machine, and the request keeps to this one",
                "Leave out --no-remote.",
                leaves_machine=True,
            )
        return Availability(True, f"set to {address.shown}", leaves_machine=away)

    def plan(self, request: ClipRequest, monitor: Monitor | None = None) -> Plan:
        """How the server that answers now would make it: its own frames, or stills animated here.

        Raises:
            TierUnavailable: none is set, none answers, or it is no web UI.
            TierBusy: it does not answer in time, or did not just now.
            Cancelled: the caller asked to stop.
        """
        may = self.availability(request)
        way, address = self._way, self._address
        if not may.available or way is None or address is None:
            raise TierUnavailable(may.reason, hint=may.hint)
        begun = time.monotonic()
        server = self._server(way, monitor or Monitor())
        spent_s = time.monotonic() - begun
        warnings: tuple[str, ...] = ()
        if address.exposes_password:
            warnings = (f"the password for {address.shown} crosses the network unencrypted",)
        if server.note:
            warnings += (f"{server.note}; it is asked for pictures, which are animated here",)
        paints = server.svd_script is None or self._lacks_svd
        plan = (_stills_plan if paints else _frames_plan)(request, server, warnings)
        # A server on this machine most likely has its GPU, too.
        return dataclasses.replace(plan, leaves_machine=may.leaves_machine, spent_s=spent_s)

    def generate(self, job: Job) -> Frames:
        """Have the pictures made, and the rest made of them.

        Raises:
            TierBusy: throttled, gone, or not done before the deadline.
            TierUnavailable: password or API are not what the server wants.
            RemoteFailed: it failed, or sent what is no picture.
            Cancelled: the caller asked to stop; the server was told to stop too.
        """
        if self._way is None:
            raise TierUnavailable("no web UI is set", hint="Set STABLE_DIFFUSION_LOCAL_URL.")
        work = Work(self._way, job)
        if job.plan.kind == "animated-stills":
            frames = _animated(job, work.stills())
            return dataclasses.replace(frames, warnings=(*frames.warnings, *work.warnings))
        images = work.frames()
        if len(images) > 1:
            return _frames(job, images, work.warnings)
        self._lacks_svd = True
        raise RemoteFailed(
            "SD.Next answered one picture where it was asked for a video",
            hint="Its video script did not run; from now on it is asked for pictures.",
        )

    def close(self) -> None:
        """Nothing is held between clips but what was found out about the server."""
        self._known = None

    def _server(self, way: Way, monitor: Monitor) -> Server:
        """What answers. That is known for half a minute; that nobody does in time, until the moment
        the server named: every clip of a batch would wait for it again. One caller asks, and the
        others wait for what it hears.
        """
        while not self._asking.acquire(timeout=_LOOK_UP_S):
            monitor.check()
        try:
            known, now = self._known, time.monotonic()
            if known is not None and now < known.until:
                return known.server(known.until - now)
            try:
                found = way.detect(_ADVICE_ON_QUESTIONS, monitor)
            except TierBusy as busy:
                if busy.unasked:
                    raise
                named = busy.retry_after_s
                rest_s = _REMEMBERED_S if named is None else min(named, self.policy.longest_rest_s)
                self._known = _Known(time.monotonic() + rest_s, busy)
                raise
            self._known = _Known(time.monotonic() + _REMEMBERED_S, found)
            return found
        finally:
            self._asking.release()


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    """What was found out about a server, until it may be asked again."""

    until: float
    found: Server | TierBusy

    def server(self, left_s: float) -> Server:
        if isinstance(self.found, Server):
            return self.found
        again = TierBusy(self.found.message, hint=self.found.hint, retry_after_s=round(left_s, 1))
        again.unasked = True
        raise again


def _without_route(url: str) -> str:
    """The base of an address that was copied with a route of the API, or with its documentation's."""
    return _ROUTE.sub("", url.strip())


def _stills_plan(request: ClipRequest, server: Server, warnings: tuple[str, ...]) -> Plan:
    """The image sequence's own plan, with pictures that are painted first."""
    plan = ImageSequenceTier().plan(request)
    width, height = plan.output_size
    if request.images:
        warnings += ("only the first picture is used: the server makes variations of it",)
    return dataclasses.replace(
        plan,
        tier=WebUITier.id,
        parameters={
            **plan.parameters,
            "server": server.name,
            "prompt": request.prompt,
            "seed": request.seed,
            "steps": request.steps or _STEPS[request.quality],
            "strength": _STRENGTH,
            "pictures": min(_MOST_PICTURES, max(1, int(plan.parameters["duration_s"]))),
            "painted_size": list(_painted(width, height)),
        },
        fingerprint={**plan.fingerprint, "server": server.name, "checkpoint": server.checkpoint},
        pictures="none" if request.image is None else "first",
        corrections=tuple(c for c in plan.corrections if c.field != "steps"),
        warnings=warnings,
        checkpoint=server.checkpoint,
        device="remote",
    )


def _frames_plan(request: ClipRequest, server: Server, warnings: tuple[str, ...]) -> Plan:
    name = request.checkpoint or "svd-xt"
    if name not in _SVD_MODELS:
        warnings += (f"SD.Next has no {name!r}: svd-xt is used",)
        name = "svd-xt"
    native = Native(frames=14) if name == "svd" else Native()
    values, corrections = generated_parameters(request, native)
    parameters: dict[str, Any] = values.to_json()
    del parameters["schedule"]
    return Plan(
        tier=WebUITier.id,
        kind="generated",
        size=(values.width, values.height),
        parameters={
            **parameters,
            "server": server.name,
            "prompt": request.prompt,
            "svd_model": _SVD_MODELS[name],
            "script": server.svd_script,
            "painted_size": [values.width, values.height],
        },
        fingerprint={"server": server.name, "checkpoint": _SVD_MODELS[name]},
        fps=values.fps,
        output_size=output_size((values.width, values.height), request.resolution),
        pictures="none" if request.image is None else "first",
        corrections=corrections,
        warnings=warnings,
        checkpoint=_SVD_MODELS[name],
        device="remote",
    )


def _painted(width: int, height: int) -> tuple[int, int]:
    """The size to paint at for a file of that size: its shape, no more pixels than models paint well."""
    scale = min(1.0, (_PAINTED_PIXELS / (width * height)) ** 0.5)
    return max(64, round(width * scale / 8) * 8), max(64, round(height * scale / 8) * 8)


def _animated(job: Job, pictures: Sequence[Image]) -> Frames:
    """The pictures as stills set in motion."""
    from svd_local.keyframe.fit import fit
    from svd_local.keyframe.types import Keyframe

    keyframes: list[Keyframe] = list(job.keyframes[:1])
    for picture in pictures[len(keyframes) :]:
        image = fit(picture, job.plan.size)
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        keyframes.append(Keyframe(image, digest, "text2image"))
    return ImageSequenceTier().generate(dataclasses.replace(job, keyframes=tuple(keyframes)))


def _frames(job: Job, images: Sequence[Image], warnings: tuple[str, ...]) -> Frames:
    """The server's pictures as frames, all of the first one's size."""
    width, height = images[0].size
    asked = int(job.plan.parameters["frames"])
    if len(images) != asked:
        warnings = (f"{asked} frames were asked for, {len(images)} were made", *warnings)
    chunks = _arrays(images, job.monitor)
    return Frames(len(images), width, height, chunks, warnings=warnings)


def _arrays(
    images: Sequence[Image], monitor: Monitor
) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
    import numpy as np

    from svd_local.keyframe.fit import fit

    for done, image in enumerate(images, 1):
        yield np.asarray(fit(image, images[0].size) if image.size != images[0].size else image)[
            None
        ]
        monitor.report("decode", done, len(images))
