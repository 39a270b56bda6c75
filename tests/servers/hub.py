"""The hub and its router: image-to-video and text-to-image, each provider in its own protocol.

One server stands for every host: the tier's ``route`` leads all of them here. A job takes ``polls``
looks before it is done.
"""

from __future__ import annotations

import base64
import io
import json
from collections import Counter

from PIL import Image
from servers.scripted import Answer, Seen

ROUTER, HUB, FILES = "router.huggingface.co", "huggingface.co", "files.example.com"
MODEL, PAINTER = "org/motion", "org/painter"
PAINTED = (150, 60, 200)
"""The colour of every painted picture."""
_RESULT = f"https://{FILES}/result.mp4?signature=signed-secret"


_PICTURE = f"https://{FILES}/picture.png?signature=signed-secret"


class Hub:
    def __init__(
        self, video: bytes, provider: str = "fal-ai", polls: int = 1, painter: str = "fal-ai"
    ) -> None:
        self.video, self.provider, self.polls = video, provider, polls
        self.painter = painter
        self.picture = _picture()
        self.task = "image-to-video"
        self.result = _RESULT
        self.failure: str | None = None
        self._polled: Counter[str] = Counter()

    def answer(self, request: Seen) -> Answer:
        if request.path == f"/api/models/{PAINTER}":
            entry = {"status": "live", "providerId": "vendor/painter", "task": "text-to-image"}
            mapping = {self.painter: entry} if self.painter else {}
            tag = {"pipeline_tag": "text-to-image", "inferenceProviderMapping": mapping}
            return _json({"id": PAINTER, **tag})
        if request.path.startswith("/api/models/"):
            entry = {"status": "live", "providerId": "vendor/motion", "task": self.task}
            mapping = {self.provider: entry} if self.provider else {}
            return _json({"id": MODEL, "inferenceProviderMapping": mapping})
        if request.path == "/result.mp4":
            return Answer(200, self.video, "video/mp4")
        if request.path == "/picture.png":
            return Answer(200, self.picture, "image/png")
        provider = request.path.split("/")[1]
        answer = {
            "fal-ai": self._fal,
            "together": self._together,
            "wavespeed": self._wavespeed,
            "hf-inference": self._hf_inference,
        }
        return answer[provider](request)

    def _done(self, job: str) -> bool:
        self._polled[job] += 1
        return self._polled[job] >= self.polls

    def _hf_inference(self, request: Seen) -> Answer:
        return Answer(200, self.picture, "image/png")

    def _fal(self, request: Seen) -> Answer:
        if request.path.endswith("/painter"):
            return _json({"images": [{"url": _PICTURE, "content_type": "image/png"}]})
        if request.method == "POST":
            where = "https://queue.fal.run/vendor/motion/requests/job-1"
            return _json({"request_id": "job-1", "status": "IN_QUEUE", "response_url": where})
        if request.path.endswith("/status"):
            return _json({"status": "COMPLETED" if self._done("fal") else "IN_PROGRESS"})
        if self.failure:
            return _json({"detail": self.failure})
        return _json({"video": {"url": self.result}})

    def _together(self, request: Seen) -> Answer:
        if request.path.endswith("/images/generations"):
            return _json({"data": [{"b64_json": base64.b64encode(self.picture).decode()}]})
        if request.method == "POST":
            return _json({"id": "job-1", "status": "queued"})
        if self.failure:
            return _json({"status": "failed", "error": {"message": self.failure}})
        status = "completed" if self._done("together") else "in_progress"
        return _json({"status": status, "outputs": {"video_url": self.result}})

    def _wavespeed(self, request: Seen) -> Answer:
        if request.method == "POST":
            job = "picture-1" if request.path.endswith("/painter") else "job-1"
            where = f"https://api.wavespeed.ai/api/v3/predictions/{job}/result"
            return _json({"data": {"urls": {"get": where}}})
        if self.failure:
            return _json({"data": {"status": "failed", "error": self.failure}})
        status = "completed" if self._done("wavespeed") else "processing"
        result = _PICTURE if "picture-1" in request.path else self.result
        return _json({"data": {"status": status, "outputs": [result]}})


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (320, 192), PAINTED).save(buffer, "PNG")
    return buffer.getvalue()


def _json(document: object) -> Answer:
    return Answer(200, json.dumps(document).encode())
