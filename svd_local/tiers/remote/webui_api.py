"""The ``/sdapi/v1`` routes of AUTOMATIC1111, Forge, SD.Next and others: what answers, pictures, progress."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svd_local.errors import ImageRejected, RemoteFailed, TierUnavailable
from svd_local.tiers.remote.door import Door
from svd_local.tiers.remote.refusals import clean, server_words

if TYPE_CHECKING:
    from PIL.Image import Image

_SVD_SCRIPTS = ("video: stable video diffusion", "video: svd")
_MOST_PIXELS = 3840 * 2160
"""Of one picture: all frames of a clip are held at once."""
_HINT = "The server's own log says more."


@dataclass(frozen=True, slots=True)
class Server:
    """What answers at a URL."""

    name: str
    """AUTOMATIC1111, Forge, SD.Next, or ``other`` for what speaks the routes and is none of them."""
    checkpoint: str | None
    """The model it has chosen, in its own words."""
    svd_script: str | None = None
    """What it calls its Stable Video Diffusion script; None where it has none."""
    note: str = ""
    """What it did not say of itself, so that the best it can is perhaps not asked of it."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What a server is at."""

    done: int = 0
    total: int = 0
    """Steps; 0 of 0 where it does not say."""
    interrupted: bool = False
    """Whether somebody has it stop what it is at, or had it stop what it was at last."""
    tells: bool = False
    """Whether it says whose job it is at."""
    task: str | None = None
    """The name that job was given; None where it is at none, or does not say."""
    idle: bool = False
    """Whether it says that it is at nothing."""
    run: str = ""
    """When the job began, in the server's own words."""

    def may_be(self, task: str) -> bool:
        """Whether the job may be the one named ``task``."""
        return not self.tells or self.task == task


@dataclass(frozen=True, slots=True)
class History:
    """SD.Next's record of its jobs, those that are part of another one left out."""

    jobs: tuple[str, ...]
    """Their names, in the order they began."""
    running: bool
    """Whether the last one is not over."""

    @classmethod
    def parse(cls, entries: list[Any]) -> History:
        """From beginnings and ends as they are recorded. A job that failed has no end: work for the API
        is done one after the other, so the next of it ends that one, too. A model that is loaded is no
        job of its own: the first request does that before its job begins.
        """
        jobs: list[str] = []
        within: list[str] = []
        for entry in entries:
            name, job, what = (str(entry.get(key)) for key in ("id", "job", "op"))
            if what == "begin":
                if job.startswith("api-"):
                    within = []
                if not within and not job.startswith("load "):
                    jobs.append(name)
                within.append(name)
            elif what == "end" and name in within:
                del within[within.index(name) :]
        return cls(tuple(jobs), bool(within))

    def only_one_since(self, before: History) -> bool:
        """Whether just one job began since ``before``, and is not over."""
        if before.jobs and before.jobs[-1] not in self.jobs:
            return False  # it keeps the latest only
        known = self.jobs.index(before.jobs[-1]) + 1 if before.jobs else 0
        return self.running and len(self.jobs) == known + 1


class WebUIApi:
    """The routes of one server, through one call's door."""

    def __init__(self, door: Door, base: str) -> None:
        self._door, self._base = door, base

    @property
    def worked_s(self) -> float:
        """Seconds from the last request for work to the beginning of its answer."""
        return self._door.worked_s

    def detect(self) -> Server:
        """What answers.

        Raises:
            TierUnavailable: nothing, or nothing of this kind.
            TierBusy: it answers that it is busy.
        """
        options = self._ask("GET", "options")
        if not isinstance(options, dict):
            raise TierUnavailable(
                f"{self._door.gate.who} answers, but not as a web UI's API does",
                hint="Start the web UI with --api, and check STABLE_DIFFUSION_LOCAL_URL.",
            )
        checkpoint = options.get("sd_model_checkpoint")
        chosen = self._own_words(checkpoint) or None if isinstance(checkpoint, str) else None
        if any(name.startswith("forge_") for name in options):
            return Server("Forge", chosen)
        sdnext, note = self._version_names_sdnext()
        if sdnext:
            script, note = self._svd_script()
            return Server("SD.Next", chosen, script, note)
        return Server("other" if chosen is None else "AUTOMATIC1111", chosen, None, note)

    def paint(self, route: str, asked: dict[str, Any], most: int = 1) -> list[Image]:
        """The pictures ``txt2img`` or ``img2img`` answers with, RGB, the first ``most`` of them.

        Raises:
            RemoteFailed: it answers none, or what is no picture. Otherwise as ``Door.send``.
        """
        document = self._ask("POST", route, {**asked, "send_images": True, "save_images": False})
        images = document.get("images") if isinstance(document, dict) else None
        if not isinstance(images, list) or not images:
            said = _trouble(document, self._door.gate.secrets)
            raise RemoteFailed(
                f"{self._door.gate.who} answered {route} without a picture"
                + (f": {said}" if said else ""),
                hint=_HINT,
            )
        return [self._picture(text) for text in images[:most]]

    def doing(self) -> Doing:
        """How far it is, and with whose job."""
        document = self._ask("GET", "progress?skip_current_image=true")
        state = document.get("state") if isinstance(document, dict) else None
        if not isinstance(state, dict):
            return Doing()
        done, total = state.get("sampling_step"), state.get("sampling_steps")
        if not (isinstance(done, int) and isinstance(total, int) and 0 <= done <= total):
            done = total = 0
        task = document.get("current_task")
        job, count, began = (state.get(key) for key in ("job", "job_count", "job_timestamp"))
        return Doing(
            done,
            total,
            interrupted=state.get("interrupted") is True,
            tells="current_task" in document,
            task=task if isinstance(task, str) else None,
            idle=job == "" and count == 0,
            run=str(began),
        )

    def history(self) -> History:
        """Which jobs it began and ended. SD.Next's alone.

        Raises:
            RemoteFailed: it makes no sense. Otherwise as ``Door.send``.
        """
        entries = self._ask("GET", "history")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise RemoteFailed(f"{self._door.gate.who} has no history of its jobs", hint=_HINT)
        return History.parse(entries)

    def interrupt(self) -> None:
        """Stop what it is at."""
        self._door.json("POST", self._url("interrupt"))

    def _own_words(self, text: str) -> str:
        """What it says of itself as it may be stored: a server may repeat what it was sent."""
        return clean(text, self._door.gate.secrets)

    def _version_names_sdnext(self) -> tuple[bool, str]:
        """Whether it is SD.Next, which alone has that route; and what is to be said of its answer."""
        try:
            version = self._ask("GET", "version")
        except TierUnavailable:
            return False, ""
        except RemoteFailed as error:
            return False, f"it did not say whether it is SD.Next: {error.message}"
        return isinstance(version, dict) and bool({"app", "hash"} & version.keys()), ""

    def _svd_script(self) -> tuple[str | None, str]:
        """Only a script that is listed is used: SD.Next ignores the name of one it lacks. Names but
        these are never repeated.
        """
        try:
            scripts = self._ask("GET", "scripts")
        except (TierUnavailable, RemoteFailed) as error:
            return None, f"SD.Next did not say which scripts it has: {error.message}"
        listed = scripts.get("img2img") if isinstance(scripts, dict) else None
        for name in listed if isinstance(listed, list) else ():
            if str(name).lower() in _SVD_SCRIPTS:
                return str(name), ""
        return None, ""

    def _picture(self, text: Any) -> Image:
        from svd_local.keyframe.picture import open_picture

        try:
            picture = open_picture(self._decoded(text))
        except ImageRejected as error:
            raise RemoteFailed(
                f"{self._door.gate.who} sent a picture that is none: {error.message}", hint=_HINT
            ) from None
        if picture.width * picture.height > _MOST_PIXELS:
            raise RemoteFailed(
                f"{self._door.gate.who} sent a picture of {picture.width}x{picture.height}",
                hint="Switch off the server's upscaling: files are enlarged here.",
            )
        return picture

    def _decoded(self, text: Any) -> bytes:
        """Bytes of bare base64, or of a data URL."""
        try:
            return base64.b64decode(text.rpartition(",")[2].strip(), validate=True)
        except (AttributeError, binascii.Error, ValueError):
            raise RemoteFailed(
                f"{self._door.gate.who} sent a picture in broken base64", hint=_HINT
            ) from None

    def _ask(self, method: str, route: str, document: Any = None) -> Any:
        return self._door.json(method, self._url(route), document)

    def _url(self, route: str) -> str:
        return f"{self._base}/sdapi/v1/{route}"


def as_base64(image: Image) -> str:
    """A picture as the routes take it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def svd_arguments(
    model: str, frames: int, guidance: Sequence[float], motion: int, noise: float, chunk: int = 6
) -> list[Any]:
    """The positional arguments of SD.Next's script; ``motion`` is SVD's bucket, 1 to 255."""
    return [
        model,
        frames,
        False,  # override the resolution
        float(guidance[0]),
        float(guidance[1]),
        chunk,
        motion / 255,
        noise,
        "None",  # write no video file over there
        2.0,  # its duration
        True,  # its loop
        1,  # its padding
        0,  # its interpolation
    ]


def _trouble(document: Any, secrets: tuple[str, ...]) -> str:
    if not isinstance(document, dict):
        return ""
    said = {key: document[key] for key in ("error", "detail", "errors") if document.get(key)}
    return server_words(json.dumps(said).encode(), secrets) if said else ""
