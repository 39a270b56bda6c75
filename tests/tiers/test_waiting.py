"""Whatever is waited for: no processor time is burnt meanwhile, and cancelling works at once."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from servers import troubles
from servers.hub import FILES, HUB, MODEL, PAINTER, ROUTER, Hub
from servers.scripted import Dialect, Trouble, serving
from servers.webui import WebUI

from svd_local.errors import Cancelled
from svd_local.generator import VideoGenerator
from svd_local.settings import Settings
from svd_local.tiers.base import Tier
from svd_local.tiers.huggingface import HuggingFaceTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote import webui_work
from svd_local.tiers.webui import WebUITier

WAITING_S = 0.5
AT_ONCE_S = 0.4
CPU_S = 0.1
PATIENT = Policy(deadline_s=60.0, tries=9, longest_wait_s=60.0, backoff_s=30.0)

JOB, FILE, PAINT, WORK = "/fal-ai/vendor/motion", "/result.mp4", "/fal-ai/vendor/painter", "*2img"
SCENES: dict[str, tuple[str, str, Trouble | None]] = {
    "a job that hangs": ("hub", JOB, troubles.hang),
    "a job that is never done": ("hub", "*/status", None),
    "a model that loads": ("hub", JOB, troubles.status(503, {"estimated_time": 50.0})),
    "a pause between tries": ("hub", JOB, troubles.status(503)),
    "a turn that has not come": ("hub", JOB, troubles.status(429, retry_after="50")),
    "a file that drips": ("hub", FILE, troubles.drip),
    "a picture that hangs": ("hub", PAINT, troubles.hang),
    "a web UI at work": ("webui", WORK, troubles.hang),
    "a web UI that is silent": ("webui", "*/options", troubles.hang),
}


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.inference._providers as providers

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(webui_work, "ANSWER_S", 60.0)
    providers._common._fetch_inference_provider_mapping.cache_clear()


class Impatient:
    """Says stop after a time of waiting; knows what the waiting cost, and when it said so."""

    def __init__(self, waiting: Any) -> None:
        self._waiting = waiting
        self._begun: tuple[float, float] | None = None
        self.said_at = self.cpu_s = 0.0

    def __call__(self) -> bool:
        now, cpu = time.monotonic(), time.process_time()
        if self._begun is None:
            if self._waiting():
                self._begun = now, cpu
            return False
        if now - self._begun[0] < WAITING_S:
            return False
        if not self.said_at:
            self.said_at, self.cpu_s = now, cpu - self._begun[1]
        return True


@pytest.mark.parametrize("scene", SCENES)
def test_waiting_costs_nothing_and_ends_at_once(
    scene: str, service_video: bytes, tmp_path: Path, temp_files: Path
) -> None:
    service, path, trouble = SCENES[scene]
    hub = Hub(service_video, polls=10**9 if trouble is None else 1)
    dialect: Dialect = hub if service == "hub" else WebUI()
    with serving(dialect) as server:
        route = dict.fromkeys((ROUTER, HUB, FILES), server.url)
        tier: Tier = WebUITier(server.url, policy=PATIENT)
        if service == "hub":
            tier = HuggingFaceTier(
                "hf_x", True, MODEL, text2image=PAINTER, policy=PATIENT, route=route
            )
        if trouble is not None:
            server.meet(f"*{path.lstrip('*')}", trouble, always=True)
        stop = Impatient(lambda: server.asked(f"*{path.lstrip('*')}"))
        settings = Settings.load(media_dir=tmp_path / "media")
        with VideoGenerator(settings, tiers=[tier]) as generator:
            fields: dict[str, Any] = {"prompt": "x", "size": (128, 72), "tier": tier.id}
            with pytest.raises(Cancelled):
                generator.generate(cancelled=stop, **fields)
            left_after_s = time.monotonic() - stop.said_at
        assert server.quiet()
    assert left_after_s < AT_ONCE_S
    assert stop.cpu_s < CPU_S
    until = time.monotonic() + 2
    while [t for t in threading.enumerate() if t.name.startswith("svd-local")]:
        assert time.monotonic() < until
        time.sleep(0.01)
