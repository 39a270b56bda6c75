from __future__ import annotations

from pathlib import Path

import pytest

from svd_local.settings import Settings


@pytest.fixture(autouse=True)
def _node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors in this process are on a node of their own, without Ray."""
    ground = tmp_path / "node"
    ground.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(ground))
    monkeypatch.setattr("svd_local.batch.ray.actor._node", lambda: "10.0.0.2")


@pytest.fixture
def machine(tmp_path: Path) -> Settings:
    """The driver's."""
    return Settings(
        _env_file=None, media_dir=tmp_path / "media", enable_fake_tier=True, models_dir=tmp_path
    )
