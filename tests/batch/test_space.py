from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from svd_local.batch.space import Space
from svd_local.errors import DiskFull


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What is free, and the time."""
    disk = SimpleNamespace(free=2**30, now=0.0)
    usage = "svd_local.batch.space.shutil.disk_usage"
    monkeypatch.setattr(usage, lambda _: SimpleNamespace(free=disk.free))
    return disk


@pytest.fixture
def space(disk: SimpleNamespace, tmp_path: Path) -> Space:
    return Space((tmp_path, tmp_path / "media"), 1000, clock=lambda: disk.now)


FULL = DiskFull("no room in the quota", hint="Free some space.")


def test_a_write_without_room_waits_longer_each_time(space: Space, disk: SimpleNamespace) -> None:
    assert space.shortage() is None
    for wait_s in (60, 120, 240, 480, 600, 600):
        space.full(FULL)
        disk.now += wait_s - 1
        paused = space.shortage()
        assert paused is not None
        assert paused.why == "no room in the quota"
        disk.now += 1
        assert space.shortage() is None
    space.fits()
    space.full(FULL)
    disk.now += 60
    assert space.shortage() is None


def test_room_that_is_made_is_seen_at_once(space: Space, disk: SimpleNamespace) -> None:
    space.full(FULL)
    disk.free += 2**20 - 1
    assert space.shortage() is not None
    disk.free += 1
    assert space.shortage() is None


def test_a_clip_that_fits_says_that_there_is_room(space: Space) -> None:
    space.full(FULL)
    space.fits()
    assert space.shortage() is None
