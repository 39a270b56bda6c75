"""The three web UIs' dialects of ``/sdapi/v1``: AUTOMATIC1111, Forge and SD.Next.

Pictures are made up from the seed. ``seconds`` is how long one takes; ``/progress`` tells how far it is,
``/interrupt`` ends it early, as the real ones do: what is at work, whosever it is, is answered with
what there is of it. One job runs at a time; others wait in line, or, with ``turns_away``, are answered
429. AUTOMATIC1111 and Forge take a job's name and tell which they are at, unless they are ``old``.
SD.Next keeps a record of its jobs, in which a job has parts; between two of them, a ``lull``, it looks
idle. One that ``forgets`` an interruption has begun the next job at once.
"""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import uuid
from typing import Any, Literal

from PIL import Image
from servers.scripted import Answer, Seen

Kind = Literal["automatic1111", "forge", "sdnext"]
SVD_SCRIPT = "Video: Stable Video Diffusion"


class WebUI:
    def __init__(
        self,
        kind: Kind = "automatic1111",
        *,
        auth: str | None = None,
        seconds: float = 0.0,
        picture: str = "PNG",
        svd: bool = True,
        extra: int = 0,
        turns_away: bool = False,
        old: bool = False,
    ) -> None:
        self.kind, self.auth, self.seconds, self.picture = kind, auth, seconds, picture
        self.svd, self.extra = svd, extra
        self.lists_scripts = True
        self.turns_away, self.old = turns_away, old
        self.interrupted = threading.Event()
        """Whether anything ever was."""
        self._at_work = threading.Lock()
        self._stop = threading.Event()
        self._began: float | None = None
        self._task: str | None = None
        self.lull = self.forgets = False
        self.history: list[dict[str, Any]] = []
        self.cut: list[bool] = []
        """Of each job that is over, in their order: whether it was interrupted."""

    def answer(self, request: Seen) -> Answer:
        if self.auth is not None and request.headers.get("authorization") != self._basic():
            answer = self._error(401, "HTTPException", "Incorrect username or password")
            return Answer(401, answer.body, headers={"www-authenticate": "Basic"})
        route = request.path.removeprefix("/sdapi/v1/")
        found = getattr(self, f"_{request.method}_{route.replace('-', '_')}".lower(), None)
        if found is None:
            return _json({"detail": "Not Found"}, 404)
        return found(json.loads(request.body) if request.body.strip() else {})

    def _get_options(self, _: Any) -> Answer:
        options: dict[str, Any] = {"sd_model_checkpoint": "painter.safetensors [abc]"}
        if self.kind == "forge":
            options["forge_preset"] = "sd"
        return _json(options)

    def _get_version(self, _: Any) -> Answer:
        if self.kind != "sdnext":
            return _json({"detail": "Not Found"}, 404)
        return _json({"app": "sd.next", "updated": "2025-01-01", "hash": "0123abcd"})

    def _get_scripts(self, _: Any) -> Answer:
        listed = [SVD_SCRIPT.lower()] if self.kind == "sdnext" and self.lists_scripts else []
        return _json({"txt2img": ["x/y/z plot"], "img2img": ["loopback", *listed]})

    def _get_progress(self, _: Any) -> Answer:
        began = self._began
        share = 0.0 if began is None else min((time.monotonic() - began) / self.seconds, 1.0)
        busy = began is not None and not self.lull
        state = {
            "sampling_step": int(20 * share),
            "sampling_steps": 20,
            "job": "" if not busy else "Base" if self.kind == "sdnext" else "scripts_txt2img",
            "job_count": int(busy),
            "job_timestamp": "0" if began is None else f"{began:.1f}",
            "interrupted": self._stop.is_set() and not self.forgets,
        }
        tells = self.kind != "sdnext" and not self.old
        task = {"current_task": self._task} if tells else {}
        return _json({"progress": share, "eta_relative": 0.0, "state": state, **task})

    def _get_history(self, _: Any) -> Answer:
        if self.kind != "sdnext":
            return _json({"detail": "Not Found"}, 404)
        return _json(self.history)

    def _record(self, op: str, job: str, name: str) -> None:
        times = {"timestamp": time.time(), "duration": None}
        self.history.append({"id": name, "job": job, "op": op, **times, "outputs": []})

    def _post_interrupt(self, _: Any) -> Answer:
        self.interrupted.set()
        self._stop.set()
        return Answer(204, b"") if self.kind == "forge" else _json({})

    def _post_txt2img(self, asked: dict[str, Any]) -> Answer:
        return self._paint(asked, 1)

    def _post_img2img(self, asked: dict[str, Any]) -> Answer:
        if not asked.get("init_images"):
            return self._error(404, "HTTPException", "Init image not found")
        try:
            Image.open(io.BytesIO(base64.b64decode(asked["init_images"][0]))).load()
        except Exception:
            return self._error(500, "HTTPException", "Invalid encoded image")
        script = asked.get("script_name")
        if script and self.kind != "sdnext":
            return self._error(422, "HTTPException", f"Script '{script}' not found")
        frames = asked["script_args"][1] if script and self.svd else 1
        return self._paint(asked, frames)

    def _paint(self, asked: dict[str, Any], count: int) -> Answer:
        if not self._at_work.acquire(blocking=not self.turns_away):
            return self._error(429, "Busy", "the server is busy")
        try:
            self._stop.clear()
            self._began, self._task = time.monotonic(), asked.get("force_task_id", "task(own)")
            name = uuid.uuid4().hex
            self._record("begin", "api-txt", name)
            self._record("begin", "process", name + "p")
            self._stop.wait(self.seconds)
            self._record("end", "process", name + "p")
            self._record("end", "api-txt", name)
            self.cut.append(self._stop.is_set())
        finally:
            self._began = self._task = None
            self._at_work.release()
        size, seed = (asked["width"], asked["height"]), asked["seed"]
        images = [self.encoded(size, seed, number) for number in range(count + self.extra)]
        info = json.dumps({"seed": seed, "all_seeds": [seed]})
        return _json({"images": images, "parameters": {}, "info": info})

    def encoded(self, size: tuple[int, int], seed: int, number: int) -> str:
        buffer = io.BytesIO()
        colour = (seed * 40 % 256, number * 9 % 256, 120)
        Image.new("RGB", size, colour).save(buffer, self.picture)
        return base64.b64encode(buffer.getvalue()).decode()

    def _error(self, status: int, error: str, detail: str) -> Answer:
        if self.kind == "sdnext":
            return _json({"detail": detail, "code": status}, status)
        return _json({"error": error, "detail": detail, "body": "", "errors": ""}, status)

    def _basic(self) -> str:
        assert self.auth is not None
        return "Basic " + base64.b64encode(self.auth.encode()).decode()


def _json(document: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode())
