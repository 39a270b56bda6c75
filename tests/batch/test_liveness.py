from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from svd_local.batch.liveness import FOLDER, Presence

LIVE = """
import sys; from pathlib import Path; from svd_local.batch.liveness import Presence
with Presence(Path(sys.argv[1])) as presence:
    print(presence.name, flush=True); sys.stdin.read()
"""


def live(media: Path) -> tuple[subprocess.Popen[str], str]:
    worker = subprocess.Popen(
        [sys.executable, "-c", LIVE, media],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    return worker, worker.stdout.readline().strip()


def test_the_living_are_let_be_and_the_dead_told_once(tmp_path: Path) -> None:
    worker, name = live(tmp_path)
    with Presence(tmp_path) as presence:
        assert list(presence.dead()) == []
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        assert list(presence.dead()) == [name]
        assert list(presence.dead()) == []
    assert list(tmp_path.iterdir()) == []


def test_who_leaves_in_peace_leaves_nothing(tmp_path: Path) -> None:
    worker, _ = live(tmp_path)
    worker.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_a_dead_one_stays_told_until_it_was_dealt_with(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "host-1-dead").touch()
    with Presence(tmp_path) as presence:
        for _ in presence.dead():
            break  # as if the catalog could not be written
        assert list(presence.dead()) == ["host-1-dead"]


def test_names_are_plain_and_no_two_alike(tmp_path: Path) -> None:
    first, second = Presence(tmp_path), Presence(tmp_path)
    assert first.name != second.name
    assert str(os.getpid()) in first.name
    assert len(first.name) <= 128
    assert "/" not in first.name


def test_two_in_one_process_do_not_take_each_other_for_dead(tmp_path: Path) -> None:
    with Presence(tmp_path) as first, Presence(tmp_path) as second:
        assert list(first.dead()) == list(second.dead()) == []
