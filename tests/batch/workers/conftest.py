from __future__ import annotations

import pytest
from servers.databases import database_of
from servers.nights import Night

from svd_local.settings import Settings


@pytest.fixture
def settings(tmp_path, server):
    """As everywhere, on either database."""
    url = database_of(tmp_path)
    return Settings.load(media_dir=tmp_path / "media", enable_fake_tier=True, database_url=url)


@pytest.fixture
def night(settings, tmp_path, monkeypatch):
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("SCRIPTED_MARKS", str(marks))
    return Night(settings, tmp_path)
