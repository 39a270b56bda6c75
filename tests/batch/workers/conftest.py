from __future__ import annotations

import pytest
from servers.nights import Night


@pytest.fixture
def night(settings, tmp_path, monkeypatch):
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setenv("SCRIPTED_MARKS", str(marks))
    return Night(settings, tmp_path)
