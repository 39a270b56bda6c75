from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time

import pytest

from svd_local.storage import Lock, Staging, orphans, sweep

HOLD = """
import sys; from pathlib import Path; from svd_local.storage import Staging
with Staging(Path(sys.argv[1])) as staging:
    staging.write(".mp4", b"video"); print("ready", flush=True); sys.stdin.read()
"""


def test_a_living_process_keeps_its_staging_and_a_dead_one_does_not(tmp_path):
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout.readline() == b"ready\n"
    (part,) = tmp_path.iterdir()
    long_ago = time.time() - 30 * 24 * 3600
    os.utime(part, (long_ago, long_ago))
    assert sweep(tmp_path, older_than_s=0) == []
    assert (part / "clip.mp4").read_bytes() == b"video"
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    os.utime(part, (long_ago, long_ago))
    assert sweep(tmp_path) == [part]
    assert list(tmp_path.iterdir()) == []


def test_a_staging_of_this_process_is_safe_too(tmp_path):
    with Staging(tmp_path) as staging:
        staging.write(".mp4", b"video")
        assert sweep(tmp_path, older_than_s=0) == []
        assert staging.publish("sd_video", (".mp4",))[".mp4"].read_bytes() == b"video"


def test_what_is_fresh_waits(tmp_path):
    (tmp_path / ".svd-0123.part").mkdir()
    assert sweep(tmp_path, older_than_s=60) == []
    assert sweep(tmp_path, older_than_s=0) == [tmp_path / ".svd-0123.part"]


def test_nothing_of_others_is_touched(tmp_path):
    (tmp_path / ".svd-notes.part").write_text("a file, not a folder")
    (tmp_path / "lesson.part").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".svd-link.part").symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.iterdir())
    assert sweep(tmp_path, older_than_s=0) == []
    assert sorted(tmp_path.iterdir()) == before


def test_a_reservation_still_looking_for_a_name_takes_no_other_clip_with_it(tmp_path):
    stem = "sd_video_20260102T030405678Z"
    for suffix in (".mp4", ".jpg"):
        (tmp_path / f"{stem}{suffix}").write_bytes(b"whole")
    part = tmp_path / f".svd-{stem}.part"
    part.mkdir()
    (part / "clip.mp4").write_bytes(b"other")
    assert sweep(tmp_path, older_than_s=0) == [part]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".jpg", ".mp4"]


def test_no_folder_is_clean(tmp_path):
    assert sweep(tmp_path / "missing") == []


def test_a_staging_that_somebody_looks_at_in_the_moment_of_its_birth_begins_again(
    tmp_path, monkeypatch
):
    """Who sweeps, or looks for orphans, holds the lock of a folder that is new for a moment."""
    looked_at = []

    class Contested(Lock):
        def __init__(self, path):
            if len(looked_at) < 2:
                looked_at.append(path)
                raise (BlockingIOError, FileNotFoundError)[len(looked_at) - 1]
            super().__init__(path)

    monkeypatch.setattr("svd_local.storage.staging.Lock", Contested)
    with Staging(tmp_path) as staging:
        staging.write(".mp4", b"video")
        assert staging.folder not in {path.parent for path in looked_at}
    assert list(tmp_path.iterdir()) == []


def test_looking_for_orphans_leaves_a_newborn_alone(tmp_path):
    newborn = tmp_path / ".svd-newborn.part"
    newborn.mkdir()
    assert list(orphans(tmp_path)) == []
    assert list(newborn.iterdir()) == []


def test_a_lock_on_a_file_that_was_swept_is_none(tmp_path, monkeypatch):
    """Another process may delete the file between its opening and its locking."""
    flock = fcntl.flock

    def late(handle, how):
        path.unlink(missing_ok=True)
        flock(handle, how)

    path = tmp_path / "lock"
    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(FileNotFoundError):
        Lock(path)
