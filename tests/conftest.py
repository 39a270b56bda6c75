"""What every test may rely on: no network tokens, a machine of its own, no user's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from svd_local.settings import Settings, variable_of


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests reaches them."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_of(field), raising=False)
    monkeypatch.setenv("SVD_LOCAL_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A machine with an empty media root below ``tmp_path``."""
    return Settings.load(media_dir=tmp_path / "media", enable_fake_tier=True)


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[Path]:
    """After the test, the media root holds no file but the catalog's."""
    media = tmp_path / "media"
    yield media
    left = [path for path in media.rglob("*") if path.is_file()]
    assert [path for path in left if not path.name.startswith("catalog.sqlite3")] == []
