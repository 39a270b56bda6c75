"""``svd-local models``: what is here, what can be had, what is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.original_layout import originals, tensors_of, write

from svd_local.cli import run

Svd = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models"
    monkeypatch.setenv("SVD_LOCAL_MODELS_DIR", str(folder))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return folder


@pytest.fixture
def svd(models: Path, capfd: pytest.CaptureFixture[str]) -> Svd:
    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        status = run([*arguments, "--json"])
        document = json.loads(capfd.readouterr().out)
        assert isinstance(document, dict)
        return status, document

    return call


def _checkpoint(folder: Path, **files: bytes) -> Path:
    """A folder that looks like a checkpoint, with these files in place of the real ones."""
    folder.mkdir(parents=True)
    index = {"_class_name": "StableVideoDiffusionPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index))
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_an_empty_machine_lists_what_can_be_had(svd: Svd) -> None:
    status, document = svd("models", "list")
    assert status == 0
    assert document["installed"] == []
    assert [one["name"] for one in document["available"]] == [
        *("svd", "svd-xt", "svd-xt-1.1", "animatelcm-svd-xt")
    ]
    assert all(one["licence"] for one in document["available"])
    assert document["made_here"] == ["tiny-svd", "synthetic:svd", "synthetic:svd-xt"]


def test_tiny_is_made_by_pulling_it_and_is_whole(svd: Svd, models: Path) -> None:
    status, document = svd("models", "pull", "tiny-svd")
    assert (status, document["checkpoint"]["synthetic"]) == (0, True)
    status, document = svd("models", "verify")
    assert (status, document["success"]) == (0, True)
    assert [one["name"] for one in document["checkpoints"]] == ["tiny-svd"]
    weights = max(models.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-100])
    status, document = svd("models", "verify", "tiny-svd", "--quick")
    assert (status, document["success"]) == (1, False)
    assert weights.name in " ".join(document["checkpoints"][0]["problems"])


def test_a_checkpoint_of_pickles_is_damaged_goods(svd: Svd, models: Path) -> None:
    folder = _checkpoint(models / "mine")
    (folder / "unet").mkdir()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04")
    status, document = svd("models", "verify", "mine")
    assert status == 1
    assert "pickle" in " ".join(document["checkpoints"][0]["problems"]).lower()


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["pull", "svd-xt"], 3, "checkpoint-offline"),
        (["pull", "no-such-thing"], 3, "checkpoint-unknown"),
        (["pull", "../../etc"], 3, "checkpoint-unknown"),
        (["verify", "no-such-thing"], 3, "checkpoint-unknown"),
        (["verify", "svd"], 3, "checkpoint-unavailable"),
        (["pull"], 2, "invalid-request"),
    ],
)
def test_what_cannot_be_had_says_so(
    svd: Svd, models: Path, arguments: list[str], status: int, code: str
) -> None:
    ended, document = svd("models", *arguments)
    assert (ended, document["error"]["code"]) == (status, code)
    assert document["error"]["hint"]
    assert not models.exists()


def test_a_single_file_is_listed_by_its_stem_and_verified(
    svd: Svd, models: Path, tiny_models: Path
) -> None:
    tensors = originals(tensors_of(tiny_models / "tiny-svd"))
    path = write(tensors, models / "svd_xt.safetensors")

    status, document = svd("models", "list")
    assert status == 0
    assert [(one["name"], one["path"]) for one in document["installed"]] == [("svd_xt", str(path))]
    assert svd("models", "verify", "svd_xt")[0] == 0
    del tensors["model.diffusion_model.out.2.bias"]
    write(tensors, path)
    status, document = svd("models", "verify")
    assert (status, document["error"]["code"]) == (1, "checkpoint-broken")
    assert document["checkpoints"][0]["problems"] == [
        "svd_xt.safetensors lacks 1 weight, model.diffusion_model.out.2.bias"
    ]


def test_a_frame_count_that_had_to_be_assumed_is_noted(
    models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    models.mkdir()
    (models / "svd_mine.safetensors").write_bytes(b"cut short")

    assert run(["models", "list"]) == 0
    assert 'unless svd_mine.svd_local.json says {"frames": 14}' in capfd.readouterr().out


def test_the_licence_is_told_even_where_the_hub_cannot_be_asked(
    models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "pull", "svd-xt"]) == 3
    told = capfd.readouterr().err
    assert "licence: Stability AI terms" in told
    assert "LICENSE.md" in told


def test_for_people(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list"]) == 0
    assert "svd-xt" in capfd.readouterr().out
    assert run(["models", "verify"]) == 0
    assert "no checkpoint is installed" in capfd.readouterr().err
