"""Twenty clips against a service that allows one request in an interval: none lost, no more than allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers.allowance import Allowance
from servers.hub import FILES, HUB, MODEL, ROUTER, Hub
from servers.scripted import Scripted, serving
from servers.webui import WebUI

from svd_local.generator import VideoGenerator
from svd_local.settings import Settings
from svd_local.tiers.base import Tier
from svd_local.tiers.huggingface import HuggingFaceTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.webui import WebUITier

CLIPS = 20
POST, WORK = "/fal-ai/vendor/motion", "/sdapi/v1/txt2img"
POLICY = Policy(deadline_s=30.0, tries=4, resend_dropped=False)


@pytest.fixture(autouse=True)
def _online_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.inference._providers as providers

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(providers.fal_ai, "_POLLING_INTERVAL", 0.01)


def make(generator: VideoGenerator, seed: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"prompt": "x", "size": (128, 72), "duration": 1.0, "no_cache": True}
    return generator.generate(tier=generator.tiers[0].id, seed=seed, **fields).to_json()


def tier_of(service: str, server: Scripted, media: Path) -> tuple[Tier, str]:
    """A tier as the settings set it up, and the path of its work."""
    if service == "huggingface":
        route = dict.fromkeys((ROUTER, HUB, FILES), server.url)
        tier = HuggingFaceTier(
            "hf_x", True, MODEL, "fal-ai", policy=POLICY, route=route, paces=media / ".pace"
        )
        return tier, POST
    return WebUITier(server.url, policy=POLICY, paces=media / ".pace"), WORK


@pytest.mark.parametrize(("service", "threads"), [("webui", 1), ("huggingface", 4)])
def test_a_batch_of_one_generator(
    service: str, threads: int, service_video: bytes, tmp_path: Path
) -> None:
    allowance = Allowance(0.1)
    dialect = Hub(service_video) if service == "huggingface" else WebUI()
    with serving(dialect) as server:
        tier, path = tier_of(service, server, tmp_path / "media")
        server.meet(path, allowance, always=True)
        settings = Settings.load(media_dir=tmp_path / "media")
        with (
            VideoGenerator(settings, tiers=[tier]) as generator,
            ThreadPoolExecutor(threads) as pool,
        ):
            clips = list(pool.map(lambda seed: make(generator, seed), range(CLIPS)))
    assert [clip["attempts"][-1]["outcome"] for clip in clips] == ["ok"] * CLIPS
    assert len({clip["path"] for clip in clips}) == CLIPS
    assert len(allowance.let_through) == CLIPS
    assert allowance.refused <= 3  # the first teaches the pace


def test_an_allowance_that_is_announced_is_never_overdrawn(
    service_video: bytes, tmp_path: Path
) -> None:
    allowance = Allowance(1.0, announces=True)
    with serving(Hub(service_video)) as server:
        tier, path = tier_of("huggingface", server, tmp_path / "media")
        server.meet(path, allowance, always=True)
        settings = Settings.load(media_dir=tmp_path / "media")
        with VideoGenerator(settings, tiers=[tier]) as generator:
            assert all(make(generator, seed)["path"].endswith(".mp4") for seed in range(3))
    assert (len(allowance.let_through), allowance.refused) == (3, 0)


def batches_of_processes(media: Path, interval_s: float, each: int) -> Allowance:
    """Two commands at once, ``each`` clips of each, into one media root."""
    allowance = Allowance(interval_s)
    with serving(WebUI()) as server:
        server.meet(WORK, allowance, always=True)
        environment = {
            **os.environ,
            "SVD_LOCAL_MEDIA_DIR": str(media),
            "STABLE_DIFFUSION_LOCAL_URL": server.url,
        }
        command = [sys.executable, "-m", "svd_local", "generate", "--prompt", "x", "--json"]
        command += ["--tier", "webui", "--size", "128x72", "--duration", "1", "--count", str(each)]
        processes = [
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, text=True, cwd=media.parent
            )
            for _ in range(2)
        ]
        answers = [process.communicate(timeout=120)[0] for process in processes]
    clips = [clip for answer in answers for clip in json.loads(answer)["clips"]]
    assert [process.returncode for process in processes] == [0, 0]
    assert len({clip["path"] for clip in clips if clip["kind"] == "animated-stills"}) == 2 * each
    assert len(allowance.let_through) == 2 * each
    return allowance


def test_two_processes_keep_to_one_pace(tmp_path: Path) -> None:
    allowance = batches_of_processes(tmp_path / "media", 0.3, 5)
    assert allowance.refused <= 3


@pytest.mark.long
def test_twenty_clips_at_one_request_a_second_from_two_processes(tmp_path: Path) -> None:
    begun = time.monotonic()
    allowance = batches_of_processes(tmp_path / "media", 1.0, CLIPS // 2)
    assert time.monotonic() - begun >= CLIPS - 1
    assert allowance.refused <= 3
