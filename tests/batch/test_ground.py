from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from svd_local.batch import ground
from svd_local.storage import Lock


def dying(folder: Path, seconds: float) -> Lock:
    """The staging folder of a killed process that the system has not yet taken apart."""
    part = folder / ".svd-h6lb2kmm.part"
    part.mkdir()
    (part / "clip.mp4").write_bytes(b"half")
    lock = Lock(part / "lock")
    threading.Timer(seconds, lock.release).start()
    return lock


def test_what_is_dying_at_the_end_is_waited_for(tmp_path: Path) -> None:
    dying(tmp_path, 1.5)
    ground.sweep_last([tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_what_lives_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground, "_DYING_S", 0.3)
    dying(tmp_path, 2)
    ground.sweep_last([tmp_path])
    assert len(list(tmp_path.iterdir())) == 1


def test_a_clip_that_waits_to_be_adopted_is_nothing_to_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / ".svd-a.part"
    part.mkdir()
    (tmp_path / "a.mp4").write_bytes(b"clip")
    (part / "publishing").write_text("a.mp4")
    (part / "record").write_text(json.dumps({}))
    monkeypatch.setattr(ground.time, "sleep", lambda seconds: pytest.fail("it waits"))
    ground.sweep_last([tmp_path])
    assert part.is_dir()
