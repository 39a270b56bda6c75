"""The Hugging Face tier against a server that speaks the hub's and its providers' protocols."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import troubles
from servers.hub import FILES, HUB, MODEL, ROUTER, Hub
from servers.scripted import Scripted, serving

from svd_local.errors import Cancelled, RemoteFailed, TierUnavailable
from svd_local.request import ClipRequest
from svd_local.tiers.base import Frames, Job, Monitor
from svd_local.tiers.huggingface import HuggingFaceTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote.hub_work import PROVIDERS

TOKEN = "hf_canary0123456789"
QUICK = Policy(deadline_s=5.0, tries=3, backoff_s=0.02, longest_wait_s=0.5, resend_dropped=False)

JobMaker = Callable[..., Job]
Reader = Callable[[Frames], np.ndarray]


@pytest.fixture(autouse=True)
def _online_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.inference._providers as providers

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(providers.fal_ai, "_POLLING_INTERVAL", 0.01)
    monkeypatch.setattr(providers.wavespeed, "_POLLING_INTERVAL", 0.01)
    monkeypatch.setattr(providers.together, "_VIDEO_POLLING_INTERVAL", 0.01)
    providers._common._fetch_inference_provider_mapping.cache_clear()


@pytest.fixture
def hub(service_video: bytes) -> Iterator[Scripted]:
    with serving(Hub(service_video)) as server:
        yield server
        assert server.quiet()


def tier_at(server: Scripted, *, provider: str = "auto", policy: Policy = QUICK) -> HuggingFaceTier:
    route = dict.fromkeys((ROUTER, HUB, FILES), server.url)
    return HuggingFaceTier(TOKEN, True, MODEL, provider, policy=policy, route=route)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_makes_a_video(
    service_video: bytes, provider: str, make_job: JobMaker, read: Reader, temp_files: Path
) -> None:
    with serving(Hub(service_video, provider, polls=3)) as server:
        tier = tier_at(server)
        frames = tier.generate(make_job(tier, seed=5, frames=14, steps=20, guidance=(1.0, 2.5)))
        pixels = read(frames)
        (posted,) = [seen for seen in server.seen if seen.method == "POST"]
    assert (frames.count, frames.width, frames.height, frames.fps) == (9, 128, 72, 16.0)
    assert abs(float(pixels[4].mean()) - 80) < 4
    assert frames.engine == provider
    assert frames.warnings == (
        f"{provider} made 9 frames of 128x72 at 16 a second with {MODEL}; 14 frames were asked for",
    )
    asked = json.loads(posted.body)
    assert asked["prompt"] == "a pump"
    assert asked["seed"] == 5
    assert posted.path.startswith(f"/{provider}/")


def test_only_what_was_asked_for_is_sent(hub: Scripted, make_job: JobMaker, read: Reader) -> None:
    tier = tier_at(hub)
    read(tier.generate(make_job(tier, fps=8, motion=20)))
    (posted,) = hub.asked("/fal-ai/vendor/motion")
    assert set(json.loads(posted.body)) == {"image_url", "prompt", "seed"}
    plan = tier.plan(ClipRequest(image=b"x", fps=8, motion=20))
    assert [c.field for c in plan.corrections] == ["fps", "motion"]
    assert plan.checkpoint == MODEL


def test_nothing_is_asked_but_what_the_clip_needs(hub: Scripted, make_job: JobMaker) -> None:
    tier = tier_at(hub)
    tier.generate(make_job(tier))
    paths = {seen.path for seen in hub.seen}
    assert {path for path in paths if path.startswith("/api/")} == {f"/api/models/{MODEL}"}


def test_credentials_go_to_the_hub_and_nowhere_else(hub: Scripted, make_job: JobMaker) -> None:
    tier = tier_at(hub)
    tier.generate(make_job(tier))
    for seen in hub.seen:
        expected = None if seen.path == "/result.mp4" else f"Bearer {TOKEN}"
        assert seen.headers.get("authorization") == expected
        assert seen.headers["host"].startswith("127.0.0.1")


def test_a_picture_for_together_fits_its_bound(service_video: bytes, make_job: JobMaker) -> None:
    from PIL import Image

    with serving(Hub(service_video, "together")) as server:
        tier = tier_at(server)
        job = make_job(tier, size=(1024, 576))
        noise = np.random.default_rng(1).integers(0, 256, (576, 1024, 3), np.uint8)
        object.__setattr__(job.keyframes[0], "image", Image.fromarray(noise // 8 + 100))
        tier.generate(job)
        (posted,) = [seen for seen in server.seen if seen.method == "POST"]
    picture = json.loads(posted.body)["frame_images"][0]["input_image"]
    assert picture.startswith("data:image/jpeg;base64,")
    assert len(picture) < 60_000


def test_seeds_are_cut_to_32_bits(hub: Scripted, make_job: JobMaker) -> None:
    tier = tier_at(hub)
    tier.generate(make_job(tier, seed=2**40 + 9))
    (posted,) = hub.asked("/fal-ai/vendor/motion")
    assert json.loads(posted.body)["seed"] == 9


def test_a_video_of_another_shape_is_cut_not_stretched(
    hub: Scripted, make_job: JobMaker, read: Reader
) -> None:
    tier = tier_at(hub)
    frames = tier.generate(make_job(tier, size=(72, 72)))
    assert read(frames).shape == (9, 72, 72, 3)
    assert "cut in the middle" in frames.warnings[0]


@pytest.mark.parametrize(
    ("provider", "task"), [("", "image-to-video"), ("replicate", "image-to-video"), ("fal-ai", "x")]
)
def test_a_model_nobody_serves(
    service_video: bytes, provider: str, task: str, make_job: JobMaker
) -> None:
    dialect = Hub(service_video, provider)
    dialect.task = task
    with serving(dialect) as server:
        tier = tier_at(server)
        with pytest.raises(TierUnavailable) as caught:
            tier.generate(make_job(tier))
    assert "SVD_LOCAL_HF_MODEL" in caught.value.hint


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_job_that_fails_at_the_provider(
    service_video: bytes, provider: str, make_job: JobMaker
) -> None:
    dialect = Hub(service_video, provider)
    dialect.failure = "the prompt is forbidden"
    with serving(dialect) as server:
        tier = tier_at(server)
        with pytest.raises(RemoteFailed) as caught:
            tier.generate(make_job(tier))
    assert provider in caught.value.message
    assert caught.value.falls_through


def test_the_temporary_file_goes_when_nobody_reads(
    hub: Scripted, make_job: JobMaker, temp_files: Path
) -> None:
    tier = tier_at(hub)
    frames = tier.generate(make_job(tier))
    assert len(list(temp_files.iterdir())) == 1
    del frames
    gc.collect()


def test_the_temporary_file_goes_when_all_is_read(
    hub: Scripted, make_job: JobMaker, read: Reader, temp_files: Path
) -> None:
    tier = tier_at(hub)
    frames = tier.generate(make_job(tier))
    read(frames)
    assert list(temp_files.iterdir()) == []


def test_paid_work_is_declared_to_be_sent_once() -> None:
    assert not HuggingFaceTier(TOKEN, True, MODEL).policy.resend_dropped


def test_the_temporary_file_goes_when_reading_is_cancelled(
    hub: Scripted, make_job: JobMaker, temp_files: Path
) -> None:
    stop: list[bool] = []
    tier = tier_at(hub)
    frames = tier.generate(make_job(tier, monitor=Monitor(cancelled=lambda: bool(stop))))
    chunks = iter(frames.chunks)
    next(chunks)
    stop.append(True)
    with pytest.raises(Cancelled):
        list(chunks)


def test_others_keep_their_own_client_for_the_hub(hub: Scripted, make_job: JobMaker) -> None:
    import huggingface_hub
    from huggingface_hub.utils import _http

    from svd_local.tiers.remote.library import http_library

    library = http_library()
    before = _http._GLOBAL_CLIENT_FACTORY  # put back below: there is no public way to ask for it
    asked: list[str] = []

    def elsewhere(request: object) -> object:
        asked.append(str(request.url))  # type: ignore[attr-defined]
        return library.Response(200, text="theirs")

    def factory() -> object:
        return library.Client(transport=library.MockTransport(elsewhere), headers={"x-own": "1"})

    huggingface_hub.set_client_factory(factory)
    try:
        tier = tier_at(hub)
        tier.generate(make_job(tier))
        answer = huggingface_hub.get_session().get("https://huggingface.co/api/whoami")
        assert answer.text == "theirs"
        assert answer.request.headers["x-own"] == "1"
        assert asked == ["https://huggingface.co/api/whoami"]
    finally:
        huggingface_hub.set_client_factory(before)


def test_progress_is_a_sign_of_life(hub: Scripted, make_job: JobMaker) -> None:
    hub.meet("/fal-ai/vendor/motion", troubles.status(503, {"estimated_time": 0.1}))
    heard = []
    tier = tier_at(hub)
    tier.generate(make_job(tier, monitor=Monitor(heard.append)))
    assert heard
    assert {p.stage for p in heard} <= {"denoise", "decode"}


class TestAvailability:
    def tier(self, token: str | None = TOKEN, consent: bool = True) -> HuggingFaceTier:
        return HuggingFaceTier(token, consent, MODEL)

    def test_a_token_with_consent_serves_auto(self) -> None:
        may = self.tier().availability(ClipRequest(prompt="x"))
        assert may.available
        assert may.leaves_machine

    def test_a_token_without_consent_serves_only_by_name(self) -> None:
        tier = self.tier(consent=False)
        auto = tier.availability(ClipRequest(prompt="x"))
        assert not auto.available
        assert "SVD_LOCAL_ALLOW_REMOTE" in auto.hint
        assert tier.availability(ClipRequest(prompt="x", tier="huggingface")).available

    @pytest.mark.parametrize("tier_name", ["auto", "huggingface"])
    def test_no_remote_forbids_it(self, tier_name: str) -> None:
        request = ClipRequest(prompt="x", tier=tier_name, no_remote=True)
        assert not self.tier().availability(request).available

    def test_no_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
        may = self.tier(None).availability()
        assert not may.available
        assert "HUGGING_FACE_TOKEN" in may.hint

    def test_the_hubs_own_login_serves_by_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_login")
        request = ClipRequest(prompt="x", tier="huggingface")
        assert self.tier(None, consent=False).availability(request).available

    def test_a_providers_key_is_refused_and_not_repeated(self) -> None:
        may = self.tier("sk-secret-key").availability()
        assert not may.available
        assert "secret" not in may.reason + may.hint
        with pytest.raises(TierUnavailable):
            self.tier("sk-secret-key").plan(ClipRequest(prompt="x"))

    @pytest.mark.parametrize("token", ["hf_", "hf_a b", "hf_ä", "hf_a\nb", "Bearer hf_a"])
    def test_what_is_no_token(self, token: str) -> None:
        assert not self.tier(token).availability().available

    @pytest.mark.parametrize(
        ("fields", "setting"),
        [
            ({"provider": "replicate"}, "SVD_LOCAL_HF_PROVIDER"),
            ({"model": "https://mine.endpoints.example"}, "SVD_LOCAL_HF_MODEL"),
            ({"model": "noname"}, "SVD_LOCAL_HF_MODEL"),
            ({"model": "../../x y"}, "SVD_LOCAL_HF_MODEL"),
            ({"text2image": "a/b/c"}, "SVD_LOCAL_HF_TEXT2IMAGE"),
        ],
    )
    def test_settings_that_cannot_work_are_told_before_anything_is_sent(
        self, fields: dict[str, str], setting: str
    ) -> None:
        tier = HuggingFaceTier(
            **{"token": TOKEN, "consent_for_auto": True, "model": MODEL, **fields}
        )  # type: ignore[arg-type]
        may = tier.availability()
        assert not may.available
        assert setting in may.hint

    def test_an_endpoint_without_encryption(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example")
        assert "HF_ENDPOINT" in self.tier().availability().reason

    @pytest.mark.parametrize("value", ["1", "ON", "true"])
    def test_offline(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        assert not self.tier().availability().available
