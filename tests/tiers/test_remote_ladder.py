"""The remote tiers in one generator: what a service did to one clip counts for the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import troubles
from servers.hub import FILES, HUB, MODEL, ROUTER, Hub
from servers.scripted import Scripted, serving
from servers.webui import WebUI

from svd_local.generator import VideoGenerator
from svd_local.settings import Settings
from svd_local.tiers.huggingface import HuggingFaceTier
from svd_local.tiers.image_sequence import ImageSequenceTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.webui import WebUITier

TOKEN, PASSWORD = "hf_canary0123456789", "canary-password"
QUICK = Policy(deadline_s=1.0, tries=2, backoff_s=0.01, longest_wait_s=0.2)


class Ladder:
    def __init__(self, hub: Scripted, server: Scripted, media: Path) -> None:
        self.hub, self.server, self.media = hub, server, media
        route = dict.fromkeys((ROUTER, HUB, FILES), hub.url)
        self.generator = VideoGenerator(
            Settings.load(media_dir=media),
            tiers=[
                HuggingFaceTier(TOKEN, True, MODEL, "fal-ai", policy=QUICK, route=route),
                WebUITier(server.url, f"user:{PASSWORD}", policy=QUICK),
                ImageSequenceTier(),
            ],
        )

    def make(self, **fields: Any) -> dict[str, Any]:
        clip = self.generator.generate(prompt="a pump", size=(128, 72), duration=2.0, **fields)
        return clip.to_json()


@pytest.fixture
def ladder(
    service_video: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ladder]:
    import huggingface_hub.inference._providers as providers

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(providers.fal_ai, "_POLLING_INTERVAL", 0.01)
    providers._common._fetch_inference_provider_mapping.cache_clear()
    dialect = WebUI("sdnext", auth=f"user:{PASSWORD}")
    with serving(Hub(service_video)) as hub, serving(dialect) as server:
        ladder = Ladder(hub, server, tmp_path / "media")
        yield ladder
        ladder.generator.close()


def outcomes(clip: dict[str, Any]) -> list[tuple[str, str]]:
    return [(attempt["tier"], attempt["outcome"]) for attempt in clip["attempts"]]


def test_the_first_rung_serves(ladder: Ladder) -> None:
    clip = ladder.make()
    assert outcomes(clip) == [("huggingface", "ok")]
    assert (clip["kind"], clip["frames"], clip["fps"]) == ("generated", 9, 16.0)
    assert (clip["checkpoint"], clip["engine"]) == (MODEL, "fal-ai")


def test_a_named_tier_that_is_busy_leaves_a_placeholder(ladder: Ladder) -> None:
    ladder.server.meet(
        "/sdapi/v1/txt2img", troubles.status(503, {"error": "x", "estimated_time": 50}), always=True
    )
    clip = ladder.make(tier="webui")
    assert clip["kind"] == "placeholder"
    assert clip["attempts"][0]["retry_after_s"] == 50
    assert list(ladder.media.rglob("*.mp4")) == []


def test_a_dead_service_is_left_alone_but_what_it_made_is_still_found(ladder: Ladder) -> None:
    post = "/fal-ai/vendor/motion"
    made = ladder.make(seed=1, tier="huggingface")
    ladder.hub.meet(post, troubles.status(500), always=True)
    for seed in (2, 3, 4):
        assert outcomes(ladder.make(seed=seed))[0] == ("huggingface", "failed")
    asked = len(ladder.hub.asked(post))
    clip = ladder.make(seed=5)
    assert outcomes(clip) == [("huggingface", "busy"), ("webui", "ok")]
    assert "3 times in a row" in clip["attempts"][0]["reason"]
    assert clip["attempts"][0]["retry_after_s"] == pytest.approx(60, abs=3)
    assert len(ladder.hub.asked(post)) == asked
    again = ladder.make(seed=1)
    assert (again["tier"], again["cached"], again["id"]) == ("huggingface", True, made["id"])


def test_a_service_that_asks_for_a_pause_is_not_asked_before(ladder: Ladder) -> None:
    post = "/fal-ai/vendor/motion"
    ladder.hub.meet(post, troubles.status(429, retry_after="77"), always=True)
    first, second = ladder.make(), ladder.make()
    assert len(ladder.hub.asked(post)) == 1
    assert first["attempts"][0]["retry_after_s"] == 77
    assert second["attempts"][0]["retry_after_s"] == pytest.approx(76, abs=2)
    assert "asked for a pause" in second["attempts"][0]["reason"]
