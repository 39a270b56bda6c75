"""``svd-local generate``: one document at every ending, and the exit status of the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from svd_local.cli import run

Document = dict[str, Any]
Svd = Callable[..., tuple[int, Document]]


@pytest.fixture(autouse=True)
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
    monkeypatch.setenv("SVD_LOCAL_ENABLE_FAKE_TIER", "1")
    return tmp_path / "media"


@pytest.fixture
def svd(capfd: pytest.CaptureFixture[str]) -> Svd:
    """Run a command with ``--json``; its exit status and its one document."""

    def call(*arguments: str) -> tuple[int, Document]:
        status = run([*arguments, "--json"])
        out = capfd.readouterr().out
        document = json.loads(out)
        assert isinstance(document, dict)
        return status, document

    return call


def _generate(svd: Svd, *arguments: str) -> tuple[int, Document]:
    return svd("generate", *arguments)


def test_a_clip(svd: Svd) -> None:
    status, clip = _generate(svd, "--prompt", "a lesson", "--tier", "fake", "--seed", "1")
    assert (status, clip["success"], clip["kind"], clip["cached"]) == (0, True, "generated", False)
    assert Path(clip["path"]).is_file()
    status, again = _generate(svd, "--prompt", "a lesson", "--tier", "fake", "--seed", "1")
    assert (status, again["cached"], again["path"]) == (0, True, clip["path"])


def test_corrections_are_in_the_document(svd: Svd) -> None:
    status, clip = _generate(svd, "--prompt", "a", "--tier", "fake", "--frames", "40")
    assert status == 0
    assert clip["frames"] == 25
    assert clip["corrections"] == [
        {"field": "frames", "from": 40, "to": 25, "why": "generated clips have at most 25"}
    ]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--frames", "0"], "frames"),
        (["--frames", "1"], "frames"),
        (["--frames", "-3"], "frames"),
        (["--frames", "many"], "frames"),
        (["--fps", "0"], "fps"),
        (["--guidance", "x"], "guidance"),
        (["--vram-budget", "banana"], "vram_budget"),
        (["--vram-budget", "0"], "vram_budget"),
        (["--tier", "gpu"], "tier"),
        (["--count", "0"], "count"),
        (["--count", "many"], "count"),
        (["--no-such-option"], None),
        (["--seed"], "seed"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    svd: Svd, media: Path, arguments: Sequence[str], field: str | None
) -> None:
    status, document = _generate(svd, "--prompt", "a lesson", *arguments)
    assert status == 2
    assert document["success"] is False
    if field is not None:
        assert document["error"]["field"] == field
    assert document["error"]["message"]
    assert document["error"]["hint"]
    assert document["attempts"] == []
    assert not media.exists()


@pytest.mark.parametrize("budget", ["banana", "0", "100MiB"])
def test_a_budget_that_is_none_or_too_small_is_refused_with_the_least_that_would_do(
    svd: Svd, media: Path, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    """Before any work: no weight is made or read, no file written."""
    from svd_local.engine import session

    monkeypatch.setattr(session, "load", lambda *_: pytest.fail("loaded"))
    local = ("--tier", "local", "--device", "cpu", "--checkpoint", "synthetic:svd-xt")
    status, document = _generate(svd, "--prompt", "a", *local, "--vram-budget", budget)
    assert status == 2
    assert document["error"]["field"] == "vram_budget"
    assert budget in document["error"]["message"]
    assert re.search(r"at least \d+MiB|\d(\.\d)?GiB at least", document["error"]["hint"])
    assert not any(media.rglob("*.mp4"))


def test_neither_words_nor_a_picture(svd: Svd, media: Path) -> None:
    status, document = _generate(svd)
    assert (status, document["error"]["code"]) == (2, "invalid-request")
    assert not media.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--tier", "huggingface"], "tier-unavailable"),
        (["--tier", "webui"], "tier-unavailable"),
        (["--checkpoint", "no-such-thing"], "checkpoint-unknown"),
        (["--tier", "local", "--device", "cpu"], "checkpoint-unavailable"),
        (["--tier", "local", "--checkpoint", "tiny-svd"], "tier-unavailable"),
    ],
)
def test_what_is_named_and_not_there(
    svd: Svd, media: Path, arguments: Sequence[str], code: str
) -> None:
    status, document = _generate(svd, "--prompt", "a lesson", *arguments)
    assert (status, document["error"]["code"]) == (3, code)
    assert document["error"]["hint"]
    assert not media.exists()


def test_a_tier_that_fails(svd: Svd, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVD_LOCAL_FAKE_FAILURES", "1")
    status, document = _generate(svd, "--prompt", "a", "--tier", "fake")
    assert (status, document["error"]["code"]) == (1, "tier-failed")
    assert document["attempts"][0]["outcome"] == "failed"
    assert not list(media.rglob("*.*4"))


def test_a_tier_that_is_busy(svd: Svd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVD_LOCAL_FAKE_FAILURES", "busy")
    status, document = _generate(svd, "--prompt", "a", "--tier", "fake")
    assert (status, document["kind"]) == (4, "placeholder")
    assert document["attempts"][0]["retry_after_s"] == 30.0
    assert Path(document["path"]).name.startswith("enhanced_placeholder_")
    assert document["files"]["video"] is None


def test_a_placeholder_by_name(svd: Svd) -> None:
    status, document = _generate(svd, "--prompt", "a", "--tier", "placeholder")
    assert (status, document["kind"], document["frames"]) == (4, "placeholder", None)


def test_several_clips_take_seeds_in_a_row(svd: Svd) -> None:
    status, document = _generate(
        svd, "--prompt", "a", "--tier", "fake", "--seed", "7", "--count", "3"
    )
    assert status == 0
    assert [clip["seed"] for clip in document["clips"]] == [7, 8, 9]
    assert len({clip["path"] for clip in document["clips"]}) == 3


def test_several_clips_of_which_one_fails(svd: Svd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVD_LOCAL_FAKE_FAILURES", "ok,failed")
    status, document = _generate(
        svd, "--prompt", "a", "--tier", "fake", "--seed", "7", "--count", "3"
    )
    assert (status, document["success"], document["error"]["code"]) == (1, False, "tier-failed")
    assert [clip["seed"] for clip in document["clips"]] == [7]


def test_pictures_words_and_letters(svd: Svd, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.radial_gradient("L").convert("RGBA").resize((300, 400)).save(photo)
    status, clip = _generate(
        svd,
        *("--image", str(photo), "--image", str(photo), "--tier", "image-sequence"),
        *("--title", "Lesson 3: Ünïcödé", "--duration", "0.5", "--out", str(tmp_path / "clips")),
    )
    assert status == 0
    assert (clip["kind"], clip["frames"], clip["fps"]) == ("animated-stills", 12, 24)
    assert Path(clip["path"]).parent == tmp_path / "clips"
    assert Path(clip["files"]["manifest"]).is_file()


def test_an_output_folder_that_cannot_be_written(svd: Svd, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, document = _generate(
        svd, "--prompt", "a", "--tier", "fake", "--out", str(tmp_path / "file" / "clips")
    )
    assert (status, document["error"]["field"]) == (1, "out")


def test_a_bad_setting_is_named(svd: Svd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVD_LOCAL_VRAM_BUDGET", "banana")
    status, document = _generate(svd, "--prompt", "a")
    assert status == 2
    assert document["error"]["field"] == "SVD_LOCAL_VRAM_BUDGET"


def test_for_people_the_path_is_all_of_standard_output(
    capfd: pytest.CaptureFixture[str],
) -> None:
    status = run(["generate", "--prompt", "a", "--tier", "fake", "--frames", "40"])
    printed = capfd.readouterr()
    assert status == 0
    assert Path(printed.out.strip()).is_file()
    assert "frames: 40 -> 25" in printed.err
    assert "synthetic" in printed.err


def test_for_people_an_error_says_what_to_do(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    status = run(["generate", "--prompt", "a", "--tier", "huggingface"])
    printed = capfd.readouterr()
    assert status == 3
    assert printed.out == ""
    assert "HUGGING_FACE_TOKEN" in printed.err
