"""The remote tiers from the command line, against loopback servers: every rung broken in turn."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from servers import troubles
from servers.hub import FILES, HUB, MODEL, PAINTER, ROUTER, Hub
from servers.scripted import Scripted, Trouble, serving
from servers.webui import WebUI

from svd_local.cli import run
from svd_local.errors import OutOfMemory, TierFailed
from svd_local.tiers import huggingface, webui
from svd_local.tiers.local import LocalTier

TOKEN, PASSWORD = "hf_canary0123456789", "canary/p@ssword"
QUOTED = "canary%2Fp%40ssword"
JOB, WORK = "/fal-ai/vendor/motion", "/sdapi/v1/*2img"
LITTLE = ("--size", "128x72", "--duration", "1")
QUICK: dict[str, Any] = {"deadline_s": 2.0, "tries": 2, "backoff_s": 0.01, "longest_wait_s": 0.2}


class Machine:
    """The command line on a machine with a token and a web UI."""

    def __init__(self, hub: Scripted, ui: Scripted, media: Path, capfd: Any) -> None:
        self.hub, self.ui, self.media = hub, ui, media
        self._capfd = capfd
        self.told: list[str] = []

    def svd(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        status = run([*arguments, "--json"])
        out, err = self._capfd.readouterr()
        self.told += [out, err]
        return status, json.loads(out)

    def generate(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        return self.svd("generate", "--prompt", "a pump", *LITTLE, *arguments)

    def say(self, *arguments: str) -> int:
        """A command for people."""
        status = run(arguments)
        self.told += self._capfd.readouterr()
        return status

    def files(self) -> list[str]:
        found = (path.name for path in self.media.rglob("*") if path.is_file())
        return [name for name in found if "sqlite3" not in name]


@pytest.fixture
def machine(
    service_video: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Machine]:
    import huggingface_hub.inference._providers as providers

    from svd_local.tiers import standard

    auth = f"user:{PASSWORD}"
    with serving(Hub(service_video)) as hub, serving(WebUI("sdnext", auth=auth)) as ui:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
        monkeypatch.setenv("HUGGING_FACE_TOKEN", TOKEN)
        monkeypatch.setenv("SVD_LOCAL_HF_MODEL", MODEL)
        monkeypatch.setenv("SVD_LOCAL_HF_TEXT2IMAGE", PAINTER)
        monkeypatch.setenv("STABLE_DIFFUSION_LOCAL_URL", ui.url.replace("//", f"//user:{QUOTED}@"))
        monkeypatch.setattr(providers.fal_ai, "_POLLING_INTERVAL", 0.01)
        providers._common._fetch_inference_provider_mapping.cache_clear()
        # Only where the hosts are, and how long a test waits, is not as on a user's machine.
        to_the_hub = functools.partial(
            huggingface.HuggingFaceTier,
            route=dict.fromkeys((ROUTER, HUB, FILES), hub.url),
            policy=dataclasses.replace(huggingface.POLICY, **QUICK),
        )
        to_the_ui = functools.partial(
            webui.WebUITier, policy=dataclasses.replace(webui.POLICY, **QUICK)
        )
        monkeypatch.setattr(standard, "HuggingFaceTier", to_the_hub)
        monkeypatch.setattr(standard, "WebUITier", to_the_ui)
        yield Machine(hub, ui, tmp_path / "media", capfd)


def outcomes(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(attempt["tier"], attempt["outcome"]) for attempt in document["attempts"]]


NO_GPU = ("local", "unavailable")


class TestEveryRungBrokenInTurn:
    def test_no_gpu(self, machine: Machine) -> None:
        status, clip = machine.generate()
        assert (status, clip["kind"], clip["checkpoint"]) == (0, "generated", MODEL)
        assert outcomes(clip) == [NO_GPU, ("huggingface", "ok")]
        assert clip["attempts"][0]["code"] == "tier-unavailable"
        assert "--device cpu" in clip["attempts"][0]["reason"]

    @pytest.mark.parametrize(
        ("trouble", "outcome", "code", "retry_after_s", "words"),
        [
            (troubles.status(402), "unavailable", "tier-unavailable", None, "credit"),
            (troubles.status(429, retry_after="77"), "busy", "tier-busy", 77, "429"),
            (
                troubles.status(503, {"error": "loading", "estimated_time": 41.5}),
                *("busy", "tier-busy", 41.5, "loading"),
            ),
            (troubles.status(500), "failed", "remote-failed", None, "500"),
            (troubles.web_page, "failed", "remote-failed", None, "made nothing"),
        ],
        ids=["no credit", "throttled", "loading", "broken", "page"],
    )
    def test_then_the_hub(
        self,
        machine: Machine,
        trouble: Trouble,
        outcome: str,
        code: str,
        retry_after_s: float | None,
        words: str,
    ) -> None:
        machine.hub.meet(JOB, trouble, always=True)
        status, clip = machine.generate()
        assert (status, clip["parameters"]["server"]) == (0, "SD.Next")
        assert outcomes(clip) == [NO_GPU, ("huggingface", outcome), ("webui", "ok")]
        told = clip["attempts"][1]
        assert (told["code"], told["retry_after_s"]) == (code, retry_after_s)
        assert words in told["reason"]

    def test_then_the_web_ui(self, machine: Machine) -> None:
        machine.hub.meet("/result.mp4", troubles.web_page, always=True)
        machine.ui.meet(WORK, troubles.truncated, always=True)
        status, clip = machine.generate()
        assert (status, clip["kind"]) == (0, "animated-stills")
        assert outcomes(clip) == [
            NO_GPU,
            ("huggingface", "failed"),
            ("webui", "failed"),
            ("image-sequence", "ok"),
        ]
        assert "a web page, 'Sign in'" in clip["attempts"][1]["reason"]
        assert "no complete JSON" in clip["attempts"][2]["reason"]

    def test_then_all(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        """The last rung fails by a fault of this machine, which stops: nothing is left behind."""
        machine.hub.meet(JOB, troubles.status(500), always=True)
        machine.ui.meet(WORK, troubles.status(500), always=True)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/false")
        status, document = machine.generate()
        assert (status, document["error"]["code"]) == (1, "media-failed")
        assert machine.files() == []

    def test_no_remote_leads_past_both(self, machine: Machine) -> None:
        status, clip = machine.generate("--no-remote")
        assert status == 0
        assert outcomes(clip)[1] == ("huggingface", "unavailable")
        assert machine.hub.seen == []

    @pytest.mark.parametrize(
        ("error", "goes_on"), [(TierFailed("a bug of ours"), False), (OutOfMemory("full"), True)]
    )
    def test_a_local_bug_calls_no_paid_service(
        self,
        machine: Machine,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        goes_on: bool,
    ) -> None:
        def plan(*_: Any) -> None:
            raise error

        monkeypatch.setattr(LocalTier, "plan", plan)
        status, document = machine.generate()
        assert outcomes(document)[0] == ("local", "failed")
        assert bool(machine.hub.seen) is goes_on
        assert status == (0 if goes_on else 1)


class TestNamedTiers:
    @pytest.mark.parametrize("kind", ["automatic1111", "forge", "sdnext"])
    def test_webui(self, machine: Machine, kind: Any) -> None:
        machine.ui.dialect = WebUI(kind, auth=f"user:{PASSWORD}")
        status, clip = machine.generate("--tier", "webui")
        assert status == 0
        assert clip["kind"] == ("generated" if kind == "sdnext" else "animated-stills")
        assert outcomes(clip) == [("webui", "ok")]

    @pytest.mark.parametrize("tier", ["huggingface", "webui"])
    def test_a_loading_model_leaves_a_placeholder_with_the_time(
        self, machine: Machine, tier: str
    ) -> None:
        loading = troubles.status(503, {"error": "loading", "estimated_time": 50})
        machine.hub.meet(JOB, loading, always=True)
        machine.ui.meet(WORK, loading, always=True)
        status, clip = machine.generate("--tier", tier)
        assert (status, clip["kind"]) == (4, "placeholder")
        assert clip["attempts"][0]["retry_after_s"] == 50
        document = json.loads(Path(clip["path"]).read_text())
        assert document["retry"]["at"] > document["made_at"]
        assert f"--tier {tier}" in document["retry"]["command"]

    @pytest.mark.parametrize(
        ("tier", "trouble", "status", "code"),
        [
            ("huggingface", troubles.status(401), 3, "tier-unavailable"),
            ("huggingface", troubles.status(500), 1, "remote-failed"),
            ("webui", troubles.status(401), 3, "tier-unavailable"),
            ("webui", troubles.status(500), 1, "remote-failed"),
        ],
    )
    def test_what_does_not_pass(
        self, machine: Machine, tier: str, trouble: Trouble, status: int, code: str
    ) -> None:
        machine.hub.meet(JOB, trouble, always=True)
        machine.ui.meet(WORK, trouble, always=True)
        ended, document = machine.generate("--tier", tier)
        assert (ended, document["error"]["code"]) == (status, code)
        assert document["error"]["hint"]
        assert outcomes(document)[-1][0] == tier
        assert machine.files() == []


def test_a_broken_ffmpeg_is_found_before_anything_is_paid_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/false")
    status, document = machine.generate("--tier", "huggingface")
    assert (status, document["error"]["code"]) == (1, "media-failed")
    assert machine.hub.seen == []


def _echoes(secrets: list[str]) -> list[Trouble]:
    """A service that repeats what it should not, in every way it has."""
    said = {"error": " ".join(secrets), "detail": [{"msg": f"Bearer {secrets[0]}"}]}
    return [
        troubles.status(500, said),
        troubles.status(401, said),
        troubles.status(503, {**said, "estimated_time": 60}),
        troubles.status(502, " ".join(secrets).encode()),
        troubles.says(json.dumps(said).encode(), "text/plain"),
        troubles.says(f"<title>{secrets[0]}</title>".encode(), "text/html"),
        troubles.redirect(f"https://127.0.0.1:1/{secrets[0]}?key={secrets[0]}"),
        troubles.drop,
    ]


def test_nothing_that_is_told_or_written_holds_a_secret(
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Tokens and passwords, as they are and as they travel, over every ending and everything kept."""
    caplog.set_level(logging.DEBUG)
    basic = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    passwords = [PASSWORD, QUOTED, basic]
    canaries = [TOKEN, *passwords, "signed-secret"]
    signed = f"https://{FILES}/result.mp4?signature=signed-secret"
    picture = tmp_path / "picture.png"
    Image.new("RGB", (128, 72), (9, 90, 200)).save(picture)

    machine.generate()
    machine.generate("--image", str(picture), "--tier", "webui")
    machine.hub.meet("/result.mp4", troubles.redirect(signed))
    machine.generate()
    machine.hub.meet("/result.mp4", troubles.status(403, {"error": f"no {signed}"}))
    machine.generate("--tier", "huggingface")
    for of_hub, of_ui in zip(_echoes([TOKEN]), _echoes(passwords), strict=True):
        machine.hub.meet(JOB, of_hub)
        machine.ui.meet(WORK, of_ui)
        machine.generate()
        machine.hub.meet(JOB, of_hub)
        machine.ui.meet(WORK, of_ui)
        machine.say("generate", "--prompt", "x", *LITTLE, "--tier", "huggingface")
        machine.say("generate", "--prompt", "x", *LITTLE, "--tier", "webui")
    machine.ui.meet("/sdapi/v1/options", _echoes(passwords)[0])
    machine.generate("--tier", "webui")
    monkeypatch.setenv("STABLE_DIFFUSION_LOCAL_AUTH", f"user:{PASSWORD}x")
    machine.generate("--tier", "webui")
    machine.svd("status")
    machine.say("status")
    _, listed = machine.svd("catalog", "list")
    machine.svd("catalog", "show", listed["clips"][0]["id"])
    machine.say("catalog", "list")

    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path != picture]
    assert {path.suffix for path in kept} >= {".mp4", ".jpg", ".json", ".sqlite3"}
    everything = {
        **{str(path): path.read_bytes() for path in kept},
        "told": "\n".join(machine.told).encode(),
        "log": caplog.text.encode(),
    }
    assert "***" in everything["told"].decode()
    for where, data in everything.items():
        for canary in canaries:
            assert canary.encode() not in data, (where, canary)
