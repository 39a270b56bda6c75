"""One clip's traffic with a web UI: pictures asked for, progress told, the server stopped on the way out."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from svd_local.errors import SvdLocalError, TierBusy
from svd_local.tiers.base import Job, Monitor
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote.call import Call, Over, supervise
from svd_local.tiers.remote.door import Door
from svd_local.tiers.remote.gate import Gate
from svd_local.tiers.remote.library import trust
from svd_local.tiers.remote.pace import Pace
from svd_local.tiers.remote.webui_api import WebUIApi, as_base64, svd_arguments

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

ASKING = Policy(deadline_s=2.0, tries=1, connect_s=1.5, max_bytes=8 << 20)
"""For questions on the side: what answers, how far it is."""
FAREWELL = Policy(deadline_s=0.5, tries=1, connect_s=0.5, max_bytes=1 << 20)
"""For telling the server to stop, which must not hold up whoever wants to leave."""

_PROGRESS_S = 0.5
_CFG_SCALE = 7.0


@dataclass(frozen=True, slots=True)
class Way:
    """How to a server: its base URL, the rules, the patience, the pace it allows."""

    base: str
    gate: Gate
    policy: Policy
    pace: Pace

    def ask(self, policy: Policy, question: Callable[[WebUIApi], T], monitor: Monitor) -> T:
        """One question on its own, within ``policy``.

        Raises:
            TierBusy: no answer in time. Otherwise as ``Door.send``.
        """
        trust()  # the library and the certificates are loaded before the clock runs
        call = Call(policy.deadline_s)

        def work() -> T:
            with contextlib.closing(Door(call, policy, self.gate)) as door:
                return question(WebUIApi(door, self.base))

        return supervise(call, work, monitor, lambda: self.late(policy.deadline_s))

    def late(self, seconds: float) -> TierBusy:
        return TierBusy(
            f"{self.gate.who} was not done within {seconds:g} s",
            hint="Look whether it is at other work, or stuck.",
        )


class Work:
    """The pictures of one clip."""

    def __init__(self, way: Way, job: Job) -> None:
        self._way, self._job = way, job
        self._asked = job.plan.parameters
        self._painting = False
        self._label = ""

    def stills(self) -> list[Image]:
        """A first picture, the request's own or painted from its words, and variations of it."""
        return self._run("keyframe", self._paint_stills)

    def frames(self) -> list[Image]:
        """The frames of SD.Next's Stable Video Diffusion; one picture where the script did not run."""
        return self._run("denoise", self._paint_frames)

    def _paint_stills(self, api: WebUIApi) -> list[Image]:
        count = int(self._asked["pictures"])
        pictures = [self._first(api, count)]
        init = as_base64(self._sized(pictures[0])) if count > 1 else ""
        for number in range(1, count):
            asked = {
                **self._painting_parameters(number),
                "init_images": [init],
                "denoising_strength": self._asked["strength"],
            }
            pictures.append(
                self._paint(api, "img2img", asked, f"picture {number + 1} of {count}")[0]
            )
        return pictures

    def _paint_frames(self, api: WebUIApi) -> list[Image]:
        values = self._asked
        first = self._first(api, 1)
        asked = {
            **self._painting_parameters(0),
            "init_images": [as_base64(self._sized(first))],
            "script_name": values["script"],
            "script_args": svd_arguments(
                values["svd_model"],
                values["frames"],
                values["guidance"],
                values["motion"],
                values["noise"],
            ),
        }
        return self._paint(api, "img2img", asked, "frames", values["frames"])

    def _first(self, api: WebUIApi, count: int) -> Image:
        if self._job.keyframes:
            return self._job.keyframes[0].image
        return self._paint(api, "txt2img", self._painting_parameters(0), f"picture 1 of {count}")[0]

    def _painting_parameters(self, number: int) -> dict[str, Any]:
        width, height = self._asked["painted_size"]
        return {
            "prompt": self._job.request.prompt or "",
            "negative_prompt": "",
            "seed": (int(self._asked["seed"]) + number) % 2**32,
            "steps": self._asked["steps"],
            "cfg_scale": _CFG_SCALE,
            "width": width,
            "height": height,
            "batch_size": 1,
            "n_iter": 1,
        }

    def _sized(self, image: Image) -> Image:
        from svd_local.keyframe.fit import fit

        size = tuple(self._asked["painted_size"])
        return image if image.size == size else fit(image, (size[0], size[1]))

    def _paint(
        self, api: WebUIApi, route: str, asked: dict[str, Any], label: str, most: int = 1
    ) -> list[Image]:
        """One piece of work on the server; ``_painting`` stays set where it was left unfinished."""
        self._label, self._painting = label, True
        try:
            images = api.paint(route, asked, most)
        except SvdLocalError:
            self._painting = False
            raise
        self._painting = False
        return images

    def _run(self, stage: str, paint: Callable[[WebUIApi], list[Image]]) -> list[Image]:
        way, monitor = self._way, self._job.monitor
        call = Call(way.policy.deadline_s)
        steps = _Steps(way, call)

        def work() -> list[Image]:
            with contextlib.closing(Door(call, way.policy, way.gate, way.pace)) as door:
                return paint(WebUIApi(door, way.base))

        def tick() -> None:
            if steps.news:
                monitor.report(stage, *steps.take(), note=call.note or self._label)

        try:
            return supervise(call, work, monitor, lambda: way.late(way.policy.deadline_s), tick)
        finally:
            if self._painting:
                self._stop_server()

    def _stop_server(self) -> None:
        with contextlib.suppress(SvdLocalError):
            self._way.ask(FAREWELL, WebUIApi.interrupt, Monitor())


class _Steps:
    """Asks the server how far it is, in a thread of its own, for as long as the call lasts."""

    def __init__(self, way: Way, call: Call) -> None:
        self._way, self._call = way, call
        self._latest = (0, 0)
        self.news = True
        threading.Thread(target=self._watch, name="svd-local-progress", daemon=True).start()

    def take(self) -> tuple[int, int]:
        self.news = False
        return self._latest

    def _watch(self) -> None:
        policy, gate = ASKING, self._way.gate
        # A server that cannot tell how far it is may still be painting: that is no error.
        with (
            contextlib.suppress(Over, SvdLocalError),
            contextlib.closing(Door(self._call, policy, gate)) as door,
        ):
            api = WebUIApi(door, self._way.base)
            while True:
                self._call.pause(_PROGRESS_S)
                self._latest = api.progress()
                self.news = True
