"""A complete clip whose owner died before its row, and the record it left for that case."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from svd_local.storage import Staging, orphans, sweep

DIE = """
import os, sys; from pathlib import Path; from svd_local.storage import Staging
with Staging(Path(sys.argv[1])) as staging:
    staging.write(".jpg", b"poster")
    staging.write(".mp4", b"video")
    staging.publish("sd_video", [".jpg", ".mp4"], stem="lesson 1", record=sys.argv[2].encode() or None)
    os._exit(9)
"""


@pytest.fixture
def orphaned(tmp_path: Path) -> Path:
    return left_by_the_dead(tmp_path, "whose it was")


def left_by_the_dead(folder: Path, record: str) -> Path:
    assert subprocess.run([sys.executable, "-c", DIE, folder, record]).returncode == 9
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FILES = ["lesson 1.jpg", "lesson 1.mp4"]
PART = ".svd-lesson 1.part"


def test_its_files_and_record_are_found(orphaned: Path) -> None:
    (orphan,) = orphans(orphaned)
    assert orphan.record == b"whose it was"
    assert orphan.files == {path.suffix: path for path in (orphaned / name for name in FILES)}
    assert names(orphaned) == [PART, *FILES]  # nobody said what to do with it


def test_kept_it_is_a_clip_like_any_other(orphaned: Path) -> None:
    for orphan in orphans(orphaned):
        (orphan.room / "scratch").write_bytes(b"x")
        orphan.keep()
    assert names(orphaned) == FILES
    assert list(orphans(orphaned)) == []


def test_discarded_it_is_gone(orphaned: Path) -> None:
    for orphan in orphans(orphaned):
        orphan.discard()
    assert names(orphaned) == []


def test_sweeping_leaves_it_to_who_adopts_it(orphaned: Path) -> None:
    assert sweep(orphaned, older_than_s=0) == []
    assert names(orphaned) == [PART, *FILES]


def test_nobody_comes_for_it_after_a_week(orphaned: Path) -> None:
    os.utime(orphaned / PART, (0, 0))
    assert sweep(orphaned) == [orphaned / PART]
    assert names(orphaned) == FILES


def test_without_a_record_nobody_asks(tmp_path: Path) -> None:
    folder = left_by_the_dead(tmp_path, "")
    assert list(orphans(folder)) == []
    assert sweep(folder) == [folder / PART]
    assert names(folder) == FILES


def test_without_its_video_it_is_a_leftover(orphaned: Path) -> None:
    (orphaned / "lesson 1.mp4").unlink()
    assert list(orphans(orphaned)) == []
    sweep(orphaned)
    assert names(orphaned) == []


def test_one_process_has_it_at_a_time(orphaned: Path) -> None:
    for _ in orphans(orphaned):
        assert list(orphans(orphaned)) == []


def test_a_living_process_is_no_orphan(tmp_path: Path) -> None:
    with Staging(tmp_path) as staging:
        staging.write(".mp4", b"video")
        staging.publish("sd_video", [".mp4"], record=b"mine")
        assert list(orphans(tmp_path)) == []
    assert len(names(tmp_path)) == 1


def test_a_dead_ones_name_is_free_again_at_once(tmp_path: Path) -> None:
    folder = left_by_the_dead(tmp_path, "")
    for name in FILES:
        (folder / name).unlink()
    sweep(folder)  # it is fresh, but was held: whoever held it is dead
    with Staging(folder) as staging:
        staging.write(".mp4", b"new")
        assert staging.publish("", [".mp4"], stem="lesson 1")[".mp4"].name == "lesson 1.mp4"


def test_a_plan_that_leads_elsewhere_is_not_followed(orphaned: Path, tmp_path: Path) -> None:
    outside = tmp_path / "other"
    outside.mkdir()
    (outside / "mine.jpg").write_bytes(b"mine")
    (orphaned / "mine.jpg").write_bytes(b"mine too")
    (orphaned / PART / "publishing").write_text("other/mine.jpg\n../gone.mp4\nnotes.txt")
    sweep(orphaned, older_than_s=0)
    assert (outside / "mine.jpg").exists()
    assert (orphaned / "mine.jpg").exists()
    assert not (orphaned / PART).exists()
