"""One clip's traffic with a web UI: pictures asked for, progress told, the server stopped on the way out."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svd_local.errors import SvdLocalError, TierBusy
from svd_local.tiers.base import Job, Monitor
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote.call import Call, Over, supervise
from svd_local.tiers.remote.door import Door
from svd_local.tiers.remote.gate import Gate
from svd_local.tiers.remote.library import trust
from svd_local.tiers.remote.pace import Pace
from svd_local.tiers.remote.webui_api import Doing, Server, WebUIApi, as_base64, svd_arguments

if TYPE_CHECKING:
    from PIL.Image import Image

ANSWER_S = 2.0
"""Most seconds for the answer to a question: what answers, how far it is."""
ASIDE = Policy(deadline_s=60.0, tries=1, connect_s=1.5, answer_s=ANSWER_S, max_bytes=8 << 20)
"""For questions whose answer is not needed."""
FAREWELL = Policy(deadline_s=0.5, tries=1, connect_s=0.5, max_bytes=1 << 20)
"""For telling the server to stop, which must not hold up whoever wants to leave."""

_PROGRESS_S = 0.5
_CFG_SCALE = 7.0
_NAMES_JOBS = ("AUTOMATIC1111", "Forge")
"""They take a name with a job, and newer ones say which they are at."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to a server: its base URL, the rules, the patience, the pace it allows."""

    base: str
    gate: Gate
    policy: Policy
    pace: Pace

    def detect(self, advice: Mapping[int, str], monitor: Monitor) -> Server:
        """What answers there, asked with the patience that work has; but each answer is to come
        soon, and a server that is not there is not waited for.

        Raises:
            TierBusy: no answer in time. Otherwise as ``WebUIApi.detect``.
        """
        call = Call(self.policy.deadline_s)
        policy = dataclasses.replace(
            self.policy, connect_s=1.5, answer_s=ANSWER_S, seeks=False, max_bytes=8 << 20
        )
        gate = dataclasses.replace(self.gate, advice=advice)

        def work() -> Server:
            with contextlib.closing(Door(call, policy, gate, self.pace)) as door:
                return WebUIApi(door, self.base).detect()

        trust()
        return supervise(call, work, monitor, lambda: self.late(policy.deadline_s))

    def take_leave(self, task: str) -> None:
        """Have the server stop, unless it says that it is at another job than ``task``."""
        call = Call(FAREWELL.deadline_s)

        def work() -> None:
            with contextlib.closing(Door(call, FAREWELL, self.gate)) as door:
                api = WebUIApi(door, self.base)
                with contextlib.suppress(SvdLocalError):
                    if not api.doing().may_be(task):
                        return
                api.interrupt()

        with contextlib.suppress(SvdLocalError):
            supervise(call, work, Monitor(), lambda: self.late(FAREWELL.deadline_s))

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
        self._label = self._task = ""
        self._seen = Doing()
        """What the server was last seen at while it had our work."""

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
        """One piece of work on the server, under a name of its own where the server takes one."""
        self._label, self._task = label, f"svd-local-{secrets.token_hex(8)}"
        if self._asked["server"] in _NAMES_JOBS:
            asked = {**asked, "force_task_id": self._task}
        self._seen = Doing()
        images = api.paint(route, asked, most)
        if api.worked_s > _PROGRESS_S:  # in less nobody has stopped it
            self._see_whole(api)
        return images

    def _see_whole(self, api: WebUIApi) -> None:
        """Whoever interrupts a server gets what there is so far, with status 200."""
        last = Doing()
        with contextlib.suppress(SvdLocalError):
            last = api.doing()
        over = last.interrupted and (last.task is None or last.may_be(self._task))
        if over or (self._seen.interrupted and self._seen.may_be(self._task)):
            raise TierBusy(
                f"{self._way.gate.who} was interrupted at {self._label}: it is not whole",
                hint="Somebody had the server stop. Try again.",
            )

    def _run(self, stage: str, paint: Callable[[WebUIApi], list[Image]]) -> list[Image]:
        way, monitor = self._way, self._job.monitor
        call = Call(way.policy.deadline_s - self._job.plan.spent_s)
        trust()
        door = Door(call, way.policy, way.gate, way.pace)
        watch = _Watch(way, door)

        def work() -> list[Image]:
            with contextlib.closing(door):
                return paint(WebUIApi(door, way.base))

        def tick() -> None:
            if watch.news:
                self._seen = watch.take()
                monitor.report(
                    stage, self._seen.done, self._seen.total, note=call.note or self._label
                )

        try:
            return supervise(call, work, monitor, lambda: way.late(way.policy.deadline_s), tick)
        finally:
            if door.at_work:
                way.take_leave(self._task)


class _Watch:
    """Asks the server what it is at while it has our work, in a thread of its own, for as long as the
    call lasts; and reminds twice a second that there may be news of what is waited for.
    """

    def __init__(self, way: Way, working: Door) -> None:
        self._way, self._working = way, working
        self._latest = Doing()
        self.news = True
        threading.Thread(target=self._watch, name="svd-local-progress", daemon=True).start()

    def take(self) -> Doing:
        self.news = False
        return self._latest

    def _watch(self) -> None:
        way, call = self._way, self._working.call
        # A server that cannot tell how far it is may still be painting: that is no error.
        with (
            contextlib.suppress(Over, SvdLocalError),
            contextlib.closing(Door(call, ASIDE, way.gate, way.pace)) as door,
        ):
            api = WebUIApi(door, way.base)
            while True:
                call.pause(_PROGRESS_S)
                if not self._working.at_work:
                    self._latest = Doing()
                elif way.pace.spare():
                    with contextlib.suppress(TierBusy):
                        self._latest = api.doing()
                self.news = True
