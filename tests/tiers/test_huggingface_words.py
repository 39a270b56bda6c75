"""Words without a picture: painted by a provider, or illustrated here where that fails for now."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from servers import troubles
from servers.hub import FILES, HUB, MODEL, PAINTED, PAINTER, ROUTER, Hub
from servers.scripted import Scripted, Trouble, serving

from svd_local.errors import Cancelled, SvdLocalError, TierUnavailable
from svd_local.generator import VideoGenerator
from svd_local.settings import Settings
from svd_local.tiers.huggingface import HuggingFaceTier
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote.hub_work import PAINTERS, painted_size
from svd_local.tiers.standard import standard_tiers

TOKEN = "hf_canary0123456789"
QUICK = Policy(deadline_s=4.0, tries=2, backoff_s=0.02, longest_wait_s=0.3, resend_dropped=False)
PAINT, PICTURE = "/fal-ai/vendor/painter", "/picture.png"


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


def clip_from(
    server: Scripted,
    media: Path,
    provider: str = "auto",
    policy: Policy = QUICK,
    text2image: str | None = PAINTER,
    **fields: Any,
) -> dict[str, Any]:
    tier = HuggingFaceTier(
        TOKEN,
        False,
        MODEL,
        provider,
        text2image=text2image,
        policy=policy,
        route=dict.fromkeys((ROUTER, HUB, FILES), server.url),
    )
    asked = {"prompt": "a pump", "size": (128, 72), "tier": "huggingface", **fields}
    with VideoGenerator(Settings.load(media_dir=media), tiers=[tier]) as generator:
        return generator.generate(**asked).to_json()


def sent_picture(server: Scripted) -> tuple[int, ...]:
    """The colour in the middle of the picture the video was asked of."""
    (posted,) = server.asked("/fal-ai/vendor/motion")
    data = json.loads(posted.body)["image_url"].partition(",")[2]
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    return image.getpixel((image.width // 2, image.height // 2))  # type: ignore[return-value]


def is_painted(colour: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(colour, PAINTED, strict=True))


def test_words_are_painted_first_and_the_result_says_so(hub: Scripted, tmp_path: Path) -> None:
    clip = clip_from(hub, tmp_path / "media", seed=2**33 + 5)
    assert is_painted(sent_picture(hub))
    assert clip["warnings"][0] == f"fal-ai painted the words with {PAINTER}"
    assert clip["parameters"]["text2image"] == PAINTER
    assert (clip["device"], clip["tier"]) == ("remote", "huggingface")
    (posted,) = hub.asked(PAINT)
    asked = json.loads(posted.body)
    assert (asked["prompt"], asked["seed"]) == ("a pump", 5)
    assert asked["image_size"] == {"width": 256, "height": 256}
    assert posted.headers["authorization"] == f"Bearer {TOKEN}"
    assert "authorization" not in hub.asked(PICTURE)[0].headers


@pytest.mark.parametrize("painter", PAINTERS)
def test_every_painters_protocol(service_video: bytes, tmp_path: Path, painter: str) -> None:
    with serving(Hub(service_video, painter=painter)) as server:
        clip = clip_from(server, tmp_path / "media")
        assert is_painted(sent_picture(server))
    assert clip["warnings"][0] == f"{painter} painted the words with {PAINTER}"


def test_the_provider_that_was_set_paints_where_it_can(
    service_video: bytes, tmp_path: Path
) -> None:
    dialect = Hub(service_video, painter="hf-inference")
    with serving(dialect) as server:
        clip = clip_from(server, tmp_path / "media", "fal-ai")
    assert clip["engine"] == "fal-ai"
    assert clip["warnings"][0].startswith("hf-inference painted")


@pytest.mark.parametrize("fields", [{"image": True}, {"text2image": None}])
def test_nothing_is_painted_where_it_need_not_be(
    hub: Scripted, tmp_path: Path, fields: dict[str, Any]
) -> None:
    if "image" in fields:
        buffer = io.BytesIO()
        Image.new("RGB", (128, 72), (10, 200, 30)).save(buffer, "PNG")
        fields = {"image": buffer.getvalue()}
    clip = clip_from(hub, tmp_path / "media", **fields)
    assert hub.asked(PAINT) == []
    assert clip["parameters"]["text2image"] is None
    assert not is_painted(sent_picture(hub))


def _bytes(kind: str, size: tuple[int, int] = (64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("path", "trouble", "words"),
    [
        (PAINT, troubles.status(503), "503"),
        (PAINT, troubles.status(500), "500"),
        (PAINT, troubles.drop, "broke the connection off"),
        (PAINT, troubles.truncated, "made nothing with"),
        (PAINT, troubles.says({"images": []}), "made nothing with"),
        (PAINT, troubles.says({"data": [{"b64_json": "%%%"}]}), "broken base64"),
        (PICTURE, troubles.web_page, "a picture that is none: a web page"),
        (PAINT, troubles.web_page, "a picture that is none: a web page, 'Sign in'"),
        (PICTURE, troubles.says({"error": "expired"}), "a picture that is none: expired"),
        (PICTURE, troubles.says(b"<svg/>"), "a picture that is none"),
        (PICTURE, troubles.says(_bytes("EPS")), "a picture that is none"),
        (PICTURE, troubles.says(_bytes("PNG", (6000, 5000))), "megapixels"),
        (PICTURE, troubles.says(_bytes("PNG")[:60]), "a picture that is none"),
        (PICTURE, troubles.huge, "larger than"),
    ],
)
def test_a_painter_that_fails_for_now_leaves_the_illustration(
    hub: Scripted, tmp_path: Path, path: str, trouble: Trouble, words: str
) -> None:
    hub.meet(path, trouble, always=True)
    clip = clip_from(hub, tmp_path / "media")
    assert clip["kind"] == "generated"
    assert clip["warnings"][0].startswith("the keyframe is an illustration: ")
    assert words in clip["warnings"][0]
    assert clip["parameters"]["text2image"] is None
    assert not is_painted(sent_picture(hub))


def test_a_pause_the_painter_asks_for_is_the_tiers(hub: Scripted, tmp_path: Path) -> None:
    hub.meet(PAINT, troubles.status(429, retry_after="90"), always=True)
    clip = clip_from(hub, tmp_path / "media")
    assert clip["kind"] == "placeholder"
    assert clip["attempts"][0]["retry_after_s"] == pytest.approx(90, abs=2)
    assert hub.asked("/fal-ai/vendor/motion") == []


def test_a_painter_that_hangs_leaves_time_for_the_video(hub: Scripted, tmp_path: Path) -> None:
    hub.meet(PAINT, troubles.hang, always=True)
    policy = Policy(deadline_s=2.0, resend_dropped=False)
    clip = clip_from(hub, tmp_path / "media", policy=policy)
    assert "painted no picture with org/painter within 1 s" in clip["warnings"][0]


@pytest.mark.parametrize("code", [401, 402, 403, 404, 410])
def test_what_does_not_pass_is_told_before_a_video_is_paid_for(
    hub: Scripted, tmp_path: Path, code: int
) -> None:
    hub.meet(PAINT, troubles.status(code), always=True)
    with pytest.raises(TierUnavailable, match=str(code)) as caught:
        clip_from(hub, tmp_path / "media")
    assert caught.value.hint
    assert hub.asked("/fal-ai/vendor/motion") == []


def test_a_model_nobody_paints_with(service_video: bytes, tmp_path: Path) -> None:
    with (
        serving(Hub(service_video, painter="")) as server,
        pytest.raises(TierUnavailable, match="text-to-image") as caught,
    ):
        clip_from(server, tmp_path / "media")
    assert "SVD_LOCAL_HF_TEXT2IMAGE" in caught.value.hint


def test_cancelled_while_it_paints(hub: Scripted, tmp_path: Path) -> None:
    hub.meet(PAINT, troubles.hang, always=True)

    def stop(progress: Any) -> None:
        if progress.stage == "keyframe" and progress.note:
            raise KeyError

    tier = HuggingFaceTier(
        TOKEN,
        False,
        MODEL,
        text2image=PAINTER,
        policy=QUICK,
        route=dict.fromkeys((ROUTER, HUB, FILES), hub.url),
    )
    settings = Settings.load(media_dir=tmp_path / "media")
    with VideoGenerator(settings, tiers=[tier]) as generator, pytest.raises(Cancelled):
        generator.generate(prompt="x", size=(128, 72), tier="huggingface", progress=stop)


def test_what_was_painted_and_what_was_not_are_different_clips(
    hub: Scripted, tmp_path: Path
) -> None:
    media = tmp_path / "media"
    hub.meet(PAINT, troubles.status(500))
    illustrated = clip_from(hub, media, seed=3)
    hub.seen.clear()
    painted = clip_from(hub, media, seed=3)
    assert not painted["cached"]
    assert painted["fingerprint"] != illustrated["fingerprint"]
    again = clip_from(hub, media, seed=3)
    assert (again["cached"], again["id"]) == (True, painted["id"])


def test_settings_decide_who_paints(tmp_path: Path) -> None:
    def painter(**fields: Any) -> str | None:
        settings = Settings.load(media_dir=tmp_path, hugging_face_token=TOKEN, **fields)
        (tier,) = (t for t in standard_tiers(settings) if isinstance(t, HuggingFaceTier))
        return tier.text2image

    assert painter() == "black-forest-labs/FLUX.1-schnell"
    assert painter(hf_text2image="org/name") == "org/name"
    assert painter(hf_text2image="None") is None
    assert painter(text2image="here/local") is None


@pytest.mark.parametrize("size", [(1024, 576), (576, 1024), (256, 144), (2048, 2048)])
def test_it_is_painted_at_a_size_models_take(size: tuple[int, int]) -> None:
    width, height = painted_size(size)
    assert (width % 16, height % 16) == (0, 0)
    assert width * height <= 1.05 * 1024 * 1024
    assert min(width, height) >= 256


def test_no_remote_and_no_consent_paint_nothing(hub: Scripted, tmp_path: Path) -> None:
    with pytest.raises(SvdLocalError):
        clip_from(hub, tmp_path / "media", no_remote=True)
    assert hub.seen == []
