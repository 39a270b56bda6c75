"""Settings: from the environment and .env, and refused by the variable's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from svd_local.errors import InvalidRequest
from svd_local.settings import Settings, export_ecosystem, variable_of


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_of(field), raising=False)


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    settings = Settings.load()
    assert settings.videos_dir == Path("media_output/videos")
    assert settings.models_dir == tmp_path / "data" / "svd_local" / "models"
    assert Path(settings.catalog_place) == tmp_path / "media_output" / "catalog.sqlite3"
    assert not settings.allow_download
    assert not settings.remote_consent


def test_a_models_folder_here_is_taken(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert Settings.load().models_dir == Path("models")


def test_the_environment_comes_before_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "SVD_LOCAL_CHECKPOINT=svd\nSVD_LOCAL_VRAM_BUDGET=6GiB\nUNRELATED=1\nHUGGING_FACE_TOKEN=hf_x\n"
    )
    monkeypatch.setenv("SVD_LOCAL_CHECKPOINT", "svd-xt")
    settings = Settings.load()
    assert settings.checkpoint == "svd-xt"
    assert settings.vram_budget == 6 * 2**30
    assert settings.hub_token == "hf_x"


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVD_LOCAL_VRAM_BUDGET", "")
    assert Settings.load().vram_budget is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SVD_LOCAL_VRAM_BUDGET", "banana"),
        ("SVD_LOCAL_VRAM_BUDGET", "0"),
        ("SVD_LOCAL_ALLOW_DOWNLOAD", "perhaps"),
        ("SVD_LOCAL_FAKE_SECONDS", "-1"),
    ],
)
def test_a_bad_value_is_refused_by_the_variables_name(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidRequest) as caught:
        Settings.load()
    assert variable == caught.value.field
    assert variable in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("environment", "consent"),
    [
        ({}, False),
        ({"HF_TOKEN": "hf_a"}, False),
        ({"SVD_LOCAL_ALLOW_REMOTE": "1"}, True),
        ({"HF_TOKEN": "hf_a", "SVD_LOCAL_ALLOW_REMOTE": "1"}, True),
        ({"HUGGING_FACE_TOKEN": "hf_a"}, True),
    ],
)
def test_nothing_leaves_the_machine_without_consent(
    environment: dict[str, str], consent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings.load().remote_consent is consent


def test_secrets_are_not_shown() -> None:
    settings = Settings.load(
        hugging_face_token="hf_canary",
        stable_diffusion_local_auth="user:canary",
        database_url="postgresql://user:canary@host/db",
    )
    assert "canary" not in repr(settings)
    assert "canary" not in str(settings)
    assert settings.catalog_place == "postgresql://host/db"


def test_the_ecosystems_names_reach_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", "kept")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    (tmp_path / ".env").write_text("HF_HOME=lost\nHF_ENDPOINT=http://localhost:1\n")
    # Set through monkeypatch too, so that it is taken away again.
    monkeypatch.setenv("HF_ENDPOINT", "")
    monkeypatch.delenv("HF_ENDPOINT")
    export_ecosystem()
    import os

    assert os.environ["HF_HOME"] == "kept"
    assert os.environ.pop("HF_ENDPOINT") == "http://localhost:1"
