"""One clip's traffic with a web UI: pictures asked for, progress told, the server stopped on the way out."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from svd_local.errors import RemoteFailed, SvdLocalError, TierBusy
from svd_local.tiers.base import Job, Monitor
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote.call import Call, Over, supervise
from svd_local.tiers.remote.door import Door
from svd_local.tiers.remote.gate import Gate
from svd_local.tiers.remote.library import trust
from svd_local.tiers.remote.pace import Pace
from svd_local.tiers.remote.webui_api import Doing, Server, WebUIApi, as_base64, svd_arguments
from svd_local.tiers.remote.webui_whose import Before, Look, cut_short, is_ours

if TYPE_CHECKING:
    from PIL.Image import Image

GLANCE = Policy(deadline_s=60.0, tries=1, connect_s=0.5, answer_s=0.5, max_bytes=8 << 20)
"""For a look before work is sent, which must not hold it up."""
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
_SDNEXT = "SD.Next"
_BLACK, _NOT_BLACK = 4, 16
"""Level up to which a picture counts as black, and above which another is not to become so, as in our
own engine."""
_BLACK_HINT = (
    "Its decoder gave NaN: start it with --no-half-vae, or choose another VAE or model there. A filter "
    "for unsafe pictures blackens them, too."
)
_GOES_ON = (
    "It was not told to stop, since the job it is at may be somebody else's: it may go on with ours"
)
_UNTOLD = "It could not be told to stop: it may go on with the job"


@dataclass(frozen=True, slots=True)
class Way:
    """How to a server: its base URL, the rules, the patience, the pace it allows."""

    base: str
    gate: Gate
    policy: Policy
    pace: Pace
    names_jobs: threading.Event = field(default_factory=threading.Event)
    """Set once the server was seen to say whose job it is at."""

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

    def take_leave(self, is_ours: Callable[[WebUIApi], bool]) -> str:
        """Have the server stop where ``is_ours`` says of the job it is at.

        Returns:
            What is to be said where it goes on; empty where it stops.
        """
        call = Call(FAREWELL.deadline_s)

        def work() -> str:
            with contextlib.closing(Door(call, FAREWELL, self.gate)) as door:
                api = WebUIApi(door, self.base)
                try:
                    if not is_ours(api):
                        return _GOES_ON
                except SvdLocalError:
                    return _GOES_ON
                api.interrupt()
                return ""

        try:
            return supervise(call, work, Monitor(), lambda: self.late(FAREWELL.deadline_s))
        except SvdLocalError:
            return _UNTOLD

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
        self._sdnext = self._asked["server"] == _SDNEXT
        self._witness: _Witness | None = None
        self.warnings: tuple[str, ...] = ()
        """What is doubtful of the pictures that came."""

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
        """The pictures of one piece of work; it is sent again where they are all black, as our own
        decoder runs again: a NaN may pass.
        """
        self._label = label
        images = self._paint_once(api, route, asked, most)
        if self._black(images):
            images = self._paint_once(api, route, asked, most)
            if self._black(images):
                raise RemoteFailed(
                    f"{self._way.gate.who} made {label} all black, twice", hint=_BLACK_HINT
                )
        return images

    def _paint_once(
        self, api: WebUIApi, route: str, asked: dict[str, Any], most: int
    ) -> list[Image]:
        """Under a name of its own where the server takes one."""
        self._task = f"svd-local-{secrets.token_hex(8)}"
        if self._asked["server"] in _NAMES_JOBS:
            asked = {**asked, "force_task_id": self._task}
        if self._witness is not None:
            self._witness.forget()
        images = api.paint(route, asked, most)
        if api.worked_s > _PROGRESS_S:  # in less nobody has stopped it
            self._see_whole(api, steps_told=route == "txt2img" or not self._sdnext)
        return images

    def _black(self, images: list[Image]) -> bool:
        """Whether the pictures are all black, and the one they were to be made from is not."""
        if not all(map(_is_black, images)):
            return False
        return all(_brightest(given.image) > _NOT_BLACK for given in self._job.keyframes[:1])

    def _see_whole(self, api: WebUIApi, *, steps_told: bool) -> None:
        """Whoever interrupts a server gets what there is so far, with status 200.

        Args:
            api: of the server that has answered.
            steps_told: whether it tells how many steps the work takes: in ``img2img`` SD.Next does
                fewer than it says.
        """
        looks = [] if self._witness is None else self._witness.looks
        answered = time.monotonic()
        last = Doing()
        with contextlib.suppress(SvdLocalError):
            last = api.doing()
        over = last.interrupted and (last.task is None or last.may_be(self._task))
        seen = looks[-1].doing if looks else Doing()
        cut = cut_short(looks, self._task, answered) if steps_told else None
        far = "" if cut is None else f", at step {cut.seen.done} of {cut.seen.total}"
        who = self._way.gate.who
        ours = seen.interrupted and seen.tells and seen.may_be(self._task)
        if over or ours or (cut is not None and cut.sure):
            raise TierBusy(
                f"{who} was interrupted at {self._label}{far}: it is not whole",
                hint="Somebody had the server stop. Try again.",
            )
        # Where it does not say whose job it had stopped, that may have been the one before ours. Were it
        # ours, it would say so still, unless the next one has begun.
        either = seen.interrupted and not seen.tells and not last.idle
        if cut is not None or either:
            doubt = (
                f"{who} may have been interrupted at {self._label}{far}: look whether it is whole"
            )
            self.warnings += (doubt,)

    def _run(self, stage: str, paint: Callable[[WebUIApi], list[Image]]) -> list[Image]:
        way, monitor = self._way, self._job.monitor
        call = Call(way.policy.deadline_s - self._job.plan.spent_s)
        trust()
        door = Door(call, way.policy, way.gate, way.pace)
        witness = self._witness = _Witness(way, door, sdnext=self._sdnext)

        def work() -> list[Image]:
            with contextlib.closing(door), contextlib.closing(witness):
                return paint(WebUIApi(door, way.base))

        def tick() -> None:
            if witness.news:
                seen = witness.take()
                monitor.report(stage, seen.done, seen.total, note=call.note or self._label)

        try:
            return supervise(call, work, monitor, lambda: way.late(way.policy.deadline_s), tick)
        except BaseException as error:
            if door.at_work and (word := way.take_leave(self._is_ours(witness, door.begun))):
                _add(error, word)
            raise

    def _is_ours(self, witness: _Witness, sent: float) -> Callable[[WebUIApi], bool]:
        """Whether the job a server is at is the one sent at ``sent``."""
        return lambda api: is_ours(
            api, self._task, sent, witness.before, witness.looks, sdnext=self._sdnext
        )


def _is_black(image: Image) -> bool:
    """Most are told not to be by a few of their points."""
    few = image.resize((16, 16), 0)  # the nearest: nothing is averaged
    return _brightest(few) <= _BLACK and _brightest(image) <= _BLACK


def _brightest(image: Image) -> int:
    """The highest level of an RGB picture."""
    return max(int(high) for _, high in image.getextrema())  # type: ignore[misc] # of three bands


class _Witness:
    """Sees what the server is at: just before it has our work, and for as long as it has it, in a thread
    of its own; and reminds twice a second that there may be news of what is waited for.
    """

    def __init__(self, way: Way, working: Door, *, sdnext: bool) -> None:
        self._way, self._working, self._sdnext = way, working, sdnext
        self._latest = Doing()
        self.before: Before | None = None
        """What is known of the server just before it had the work; None where it names its jobs, or
        did not say."""
        self.looks: list[Look] = []
        """What it was seen at since."""
        self.news = True
        self._eve = Door(working.call, GLANCE, way.gate, way.pace)
        self._mute = False
        working.eve = self._look_ahead
        threading.Thread(target=self._watch, name="svd-local-progress", daemon=True).start()

    def close(self) -> None:
        self._eve.close()

    def forget(self) -> None:
        """Begin anew with another piece of work."""
        self.before, self.looks = None, []

    def take(self) -> Doing:
        self.news = False
        return self._latest

    def _look_ahead(self) -> None:
        """See whether the server is at work for somebody else, where that is not told afterwards."""
        way, self.before = self._way, None
        if way.names_jobs.is_set() or self._mute or not way.pace.spare():
            return
        api = WebUIApi(self._eve, way.base)
        try:
            doing = api.doing()
            if doing.tells:
                way.names_jobs.set()
            else:
                self.before = Before.seen(api, doing, sdnext=self._sdnext)
        except SvdLocalError:
            self._mute = True  # it would hold up each piece of work

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
                looks = self.looks
                if not self._working.at_work:
                    self._latest = Doing()
                elif way.pace.spare():
                    with contextlib.suppress(TierBusy):
                        self._latest = api.doing()
                        looks.append(Look(time.monotonic(), self._latest))
                self.news = True


def _add(error: BaseException, word: str) -> None:
    """Say ``word`` with an error that is on its way."""
    if isinstance(error, SvdLocalError):
        error.hint = f"{error.hint} {word}.".strip()
    else:
        error.add_note(word)
