"""The webui tier against servers that speak the three web UIs' dialects."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from servers import troubles
from servers.scripted import Scripted, serving
from servers.webui import SVD_SCRIPT, Kind, WebUI

from svd_local.errors import RemoteFailed, TierUnavailable
from svd_local.request import ClipRequest
from svd_local.tiers.base import Frames, Job, Monitor
from svd_local.tiers.policy import Policy
from svd_local.tiers.webui import WebUITier

QUICK = Policy(deadline_s=10.0, tries=3, backoff_s=0.02, longest_wait_s=1.0)

JobMaker = Callable[..., Job]
Reader = Callable[[Frames], np.ndarray]


def asked(server: Scripted, route: str) -> list[dict[str, Any]]:
    return [json.loads(seen.body) for seen in server.asked(f"/sdapi/v1/{route}")]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("automatic1111", "AUTOMATIC1111"), ("forge", "Forge"), ("sdnext", "SD.Next")],
)
@pytest.mark.parametrize("picture", ["PNG", "JPEG", "WEBP"])
def test_words_become_animated_stills(
    kind: Kind, name: str, picture: str, make_job: JobMaker, read: Reader
) -> None:
    dialect = WebUI(kind, picture=picture, extra=1)
    dialect.lists_scripts = False
    with serving(dialect) as server:
        tier = WebUITier(server.url, policy=QUICK)
        job = make_job(tier, image=None, seed=1, duration=2.0)
        frames = tier.generate(job)
        pixels = read(frames)
        (first,), (variation,) = asked(server, "txt2img"), asked(server, "img2img")
        assert server.quiet()
    assert job.plan.kind == "animated-stills"
    assert job.plan.parameters["server"] == name
    assert job.plan.checkpoint == "painter.safetensors [abc]"
    assert pixels.shape == (48, 72, 128, 3)
    assert abs(float(pixels[0, ..., 0].mean()) - 40) < 6
    assert abs(float(pixels[-1, ..., 0].mean()) - 80) < 6
    assert (first["prompt"], first["seed"], first["width"], first["height"]) == (
        "a pump",
        1,
        128,
        72,
    )
    assert (variation["seed"], variation["denoising_strength"]) == (2, 0.35)
    assert "script_name" not in variation
    assert frames.manifest is not None
    assert len(frames.manifest["pictures"]) == 2


def test_a_picture_is_the_first_and_only_varied(make_job: JobMaker, read: Reader) -> None:
    with serving(WebUI()) as server:
        tier = WebUITier(server.url, policy=QUICK)
        job = make_job(tier, prompt=None, images=(b"more",))
        pixels = read(tier.generate(job))
        assert asked(server, "txt2img") == []
        assert len(asked(server, "img2img")) == 2
    assert pixels[0, 36, 64].astype(int) == pytest.approx([10, 200, 30], abs=3)
    assert "only the first picture" in job.plan.warnings[0]


@pytest.mark.parametrize("image", [b"picture", None], ids=["picture", "words"])
def test_sdnext_makes_the_frames_itself(
    image: bytes | None, make_job: JobMaker, read: Reader
) -> None:
    with serving(WebUI("sdnext")) as server:
        tier = WebUITier(server.url, policy=QUICK)
        job = make_job(
            tier,
            image=image,
            frames=14,
            fps=6,
            steps=9,
            seed=3,
            motion=51,
            noise=0.1,
            checkpoint="svd",
        )
        frames = tier.generate(job)
        pixels = read(frames)
        (posted,) = asked(server, "img2img")
        assert len(asked(server, "txt2img")) == (image is None)
    assert job.plan.kind == "generated"
    assert (job.plan.fps, job.plan.checkpoint) == (6, "SVD 1.0")
    assert pixels.shape == (14, 72, 128, 3)
    assert [int(frame[0, 0, 1]) for frame in pixels] == [9 * n for n in range(14)]
    assert posted["script_name"] == SVD_SCRIPT.lower()
    assert posted["script_args"][:9] == ["SVD 1.0", 14, False, 1.0, 3.0, 6, 0.2, 0.1, "None"]
    assert (posted["steps"], posted["seed"], posted["save_images"]) == (9, 3, False)


def test_a_script_that_is_listed_but_did_not_run(make_job: JobMaker, read: Reader) -> None:
    with serving(WebUI("sdnext", svd=False)) as server:
        tier = WebUITier(server.url, policy=QUICK)
        with pytest.raises(RemoteFailed, match="one picture") as caught:
            tier.generate(make_job(tier))
        assert caught.value.falls_through
        again = make_job(tier)
        assert again.plan.kind == "animated-stills"
        read(tier.generate(again))


def test_fewer_frames_than_asked_for_are_told(make_job: JobMaker, read: Reader) -> None:
    picture = WebUI().encoded((128, 72), 1, 1)
    with serving(WebUI("sdnext")) as server:
        server.meet("/sdapi/v1/img2img", troubles.says({"images": [picture] * 5, "info": "{}"}))
        tier = WebUITier(server.url, policy=QUICK)
        frames = tier.generate(make_job(tier, frames=14))
    assert read(frames).shape[0] == 5
    assert frames.warnings == ("14 frames were asked for, 5 were made",)


def test_a_data_url_is_a_picture_too(make_job: JobMaker, read: Reader) -> None:
    picture = "data:image/png;base64," + WebUI().encoded((128, 72), 1, 1)
    with serving(WebUI()) as server:
        server.meet("/sdapi/v1/txt2img", troubles.says({"images": [picture], "info": "{}"}))
        tier = WebUITier(server.url, policy=QUICK)
        read(tier.generate(make_job(tier, image=None, duration=1.0)))
        assert asked(server, "img2img") == []


def test_large_files_are_painted_at_a_size_models_paint_well(make_job: JobMaker) -> None:
    with serving(WebUI()) as server:
        tier = WebUITier(server.url, policy=QUICK)
        plan = tier.plan(ClipRequest(prompt="x", resolution="1080p"))
    width, height = plan.parameters["painted_size"]
    assert plan.output_size == (1920, 1080)
    assert (width % 8, height % 8) == (0, 0)
    assert width * height <= 1.02 * 1024 * 576
    assert abs(width / height - 16 / 9) < 0.03


class TestWhatAnswers:
    def test_it_is_asked_once_for_several_plans(self) -> None:
        with serving(WebUI("sdnext")) as server:
            tier = WebUITier(server.url, policy=QUICK)
            for _ in range(3):
                tier.plan(ClipRequest(prompt="x"))
            assert len(server.asked("/sdapi/v1/options")) == 1
            tier.close()
            tier.plan(ClipRequest(prompt="x"))
            assert len(server.asked("/sdapi/v1/options")) == 2

    @pytest.mark.parametrize(
        ("trouble", "words"),
        [
            (troubles.web_page, "a web page"),
            (troubles.status(404, {"detail": "Not Found"}), "404"),
            (troubles.says([1, 2]), "not as a web UI"),
        ],
    )
    def test_neither_of_them(self, trouble: Any, words: str) -> None:
        with serving(WebUI()) as server:
            server.meet("/sdapi/v1/options", trouble, always=True)
            with pytest.raises((TierUnavailable, RemoteFailed)) as caught:
                WebUITier(server.url).plan(ClipRequest(prompt="x"))
        assert words in caught.value.message
        assert caught.value.falls_through

    def test_without_its_api(self) -> None:
        with serving(WebUI()) as server:
            server.meet("/sdapi/*", troubles.status(404), always=True)
            with pytest.raises(TierUnavailable) as caught:
                WebUITier(server.url).plan(ClipRequest(prompt="x"))
        assert "--api" in caught.value.hint

    def test_nobody_listening(self, stopwatch: Any) -> None:
        with serving(WebUI()) as server:
            url = server.url
        with stopwatch, pytest.raises(TierUnavailable, match="cannot be reached"):
            WebUITier(url).plan(ClipRequest(prompt="x"))
        assert stopwatch.seconds < 1

    def test_a_progress_that_fails_is_no_failure(self, make_job: JobMaker) -> None:
        with serving(WebUI(seconds=0.6)) as server:
            server.meet("/sdapi/v1/progress", troubles.status(500), always=True)
            tier = WebUITier(server.url, policy=QUICK)
            assert tier.generate(make_job(tier, image=None, duration=1.0)).count == 24


class TestAvailability:
    def test_nothing_set(self) -> None:
        may = WebUITier(None).availability()
        assert not may.available
        assert "STABLE_DIFFUSION_LOCAL_URL" in may.hint
        with pytest.raises(TierUnavailable):
            WebUITier(None).plan(ClipRequest(prompt="x"))

    @pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", ""])
    def test_no_address(self, url: str) -> None:
        assert not WebUITier(url).availability().available

    @pytest.mark.parametrize(
        "url",
        [
            *("http://127.0.0.1:7860/", "localhost:7860", "http://[::1]:1"),
            *("http://0.0.0.0:7860", "http://[::]:7860"),
        ],
    )
    def test_this_machine_is_not_away(self, url: str) -> None:
        may = WebUITier(url).availability(ClipRequest(prompt="x", no_remote=True))
        assert may.available
        assert not may.leaves_machine

    @pytest.mark.parametrize(
        "copied", ["/", "/sdapi", "/sdapi/v1/", "/sdapi/v1/txt2img", "/docs", "/docs#/x", " "]
    )
    def test_an_address_that_was_copied_with_a_route(self, copied: str) -> None:
        with serving(WebUI()) as server:
            assert WebUITier(server.url + copied).plan(ClipRequest(prompt="x"))

    def test_a_path_is_kept(self) -> None:
        with serving(WebUI()) as server:
            server.meet("/sd/sdapi/v1/options", troubles.says({"sd_model_checkpoint": "x"}))
            assert WebUITier(f"{server.url}/sd/").plan(ClipRequest(prompt="x"))

    def test_another_machine_is(self) -> None:
        tier = WebUITier("http://192.168.1.20:7860")
        assert tier.availability().leaves_machine
        assert not tier.availability(ClipRequest(prompt="x", no_remote=True)).available


class TestPassword:
    def test_it_is_sent_as_http_basic(self, make_job: JobMaker) -> None:
        with serving(WebUI(auth="user:pass:word")) as server:
            tier = WebUITier(server.url, "user:pass:word", policy=QUICK)
            tier.generate(make_job(tier, image=None, duration=1.0))

    def test_it_may_stand_in_the_address(self, make_job: JobMaker) -> None:
        with serving(WebUI(auth="user:p@ss")) as server:
            tier = WebUITier(server.url.replace("//", "//user:p%40ss@"), policy=QUICK)
            assert "p@ss" not in tier.availability().reason
            tier.generate(make_job(tier, image=None, duration=1.0))

    def test_a_wrong_one_is_told_with_advice(self) -> None:
        with serving(WebUI(auth="user:right")) as server:
            with pytest.raises(TierUnavailable, match="401") as caught:
                WebUITier(server.url, "user:wrong").plan(ClipRequest(prompt="x"))
            assert len(server.seen) == 1
        assert "STABLE_DIFFUSION_LOCAL_AUTH" in caught.value.hint
        assert "wrong" not in caught.value.message

    def test_it_is_not_sent_on_to_another_host(self) -> None:
        with serving(WebUI()) as server, serving(WebUI()) as other:
            server.meet("/sdapi/v1/options", troubles.redirect(other.url + "/sdapi/v1/options"))
            with pytest.raises(TierUnavailable, match="sends requests on"):
                WebUITier(server.url, "user:secret").plan(ClipRequest(prompt="x"))
            assert other.seen == []

    def test_crossing_a_network_unencrypted_is_warned_of(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from svd_local.tiers.remote.webui_api import Server

        for url, warned in (("http://10.1.2.3", True), ("https://10.1.2.3", False)):
            tier = WebUITier(url, "user:secret")
            monkeypatch.setattr(tier, "_server", lambda *_: Server("Forge", "x"))
            warnings = tier.plan(ClipRequest(prompt="x")).warnings
            assert any("unencrypted" in warning for warning in warnings) is warned
            assert "secret" not in "".join(warnings)


def test_progress_is_passed_on(make_job: JobMaker) -> None:
    heard = []
    with serving(WebUI(seconds=0.9)) as server:
        tier = WebUITier(server.url, policy=QUICK)
        tier.generate(make_job(tier, image=None, duration=1.0, monitor=Monitor(heard.append)))
        assert server.asked("/sdapi/v1/progress")[0].query == "skip_current_image=true"
    steps = [p for p in heard if p.stage == "keyframe" and p.total == 20]
    assert steps
    assert 5 <= steps[0].done <= 18
    assert steps[0].note == "picture 1 of 1"


def test_pictures_are_sent_as_bare_base64(make_job: JobMaker) -> None:
    with serving(WebUI()) as server:
        tier = WebUITier(server.url, policy=QUICK)
        tier.generate(make_job(tier, duration=2.0))
        (posted,) = asked(server, "img2img")
    data = base64.b64decode(posted["init_images"][0], validate=True)
    assert data.startswith(b"\x89PNG")
