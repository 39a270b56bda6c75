from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from svd_local.errors import DiskFull, InvalidRequest, StorageFailed
from svd_local.storage import Staging, sweep

HERE = Path(__file__).parent
AT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
STEM = "sd_video_20260102T030405678Z"


def publish(folder: Path, content: bytes = b"video") -> dict[str, Path]:
    with Staging(folder) as staging:
        staging.write(".jpg", b"poster")
        staging.path(".mp4").write_bytes(content)
        return staging.publish("sd_video", (".jpg", ".mp4"), at=AT)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_publishes_the_set_under_one_name_and_leaves_nothing_else(tmp_path):
    folder = tmp_path / "new" / "videos"
    paths = publish(folder)
    assert names(folder) == [f"{STEM}.jpg", f"{STEM}.mp4"]
    assert paths == {".jpg": folder / f"{STEM}.jpg", ".mp4": folder / f"{STEM}.mp4"}
    assert paths[".mp4"].read_bytes() == b"video"
    assert paths[".mp4"].stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_name_is_the_moment_in_utc_to_the_millisecond(tmp_path):
    with Staging(tmp_path) as staging:
        staging.write(".json", b"{}")
        before = datetime.now(UTC)
        path = staging.publish("enhanced_placeholder", (".json",))[".json"]
    stamp = path.stem.removeprefix("enhanced_placeholder_")
    moment = datetime.strptime(stamp[:-1] + "000+0000", "%Y%m%dT%H%M%S%f%z")
    assert stamp.endswith("Z")
    assert -0.001 <= (moment - before).total_seconds() < 5


def test_a_taken_name_moves_on_by_a_millisecond_for_the_whole_set(tmp_path):
    (tmp_path / f"{STEM}.json").write_text("somebody's manifest")
    paths = publish(tmp_path)
    assert paths[".mp4"].name == "sd_video_20260102T030405679Z.mp4"
    assert paths[".jpg"].name == "sd_video_20260102T030405679Z.jpg"
    assert (tmp_path / f"{STEM}.json").read_text() == "somebody's manifest"


def test_a_wanted_name_is_taken_and_numbered_where_it_is_taken(tmp_path):
    (tmp_path / "lesson.json").write_text("somebody's")
    found = []
    for _ in range(2):
        with Staging(tmp_path) as staging:
            staging.write(".mp4", b"video")
            found.append(staging.publish("sd_video", (".mp4",), stem="lesson")[".mp4"].name)
    assert found == ["lesson_2.mp4", "lesson_3.mp4"]
    assert names(tmp_path) == ["lesson.json", *found]


def test_a_name_that_leads_elsewhere_is_refused(tmp_path):
    with pytest.raises(InvalidRequest):
        publish_video(tmp_path / "out", b"video", stem="../lesson")
    assert names(tmp_path) == []


def test_the_mp4_becomes_visible_last_and_all_is_flushed_before(tmp_path, monkeypatch):
    steps: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(handle):
        steps.append("flush " + Path(f"/proc/self/fd/{handle}").readlink().name)
        return real_fsync(handle)

    def rename(path, target):
        steps.append(f"move {path.name}" if path.suffix != ".part" else "reserve")
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    publish(tmp_path)
    flush_folder = f"flush {tmp_path.name}"
    assert steps[:-1] == [
        "flush clip.jpg",
        "flush clip.mp4",
        "reserve",
        "move clip.jpg",
        flush_folder,
        "move clip.mp4",
        flush_folder,
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_after_publishing_takes_everything_back(tmp_path, error):
    def row_refused():
        with Staging(tmp_path) as staging:
            staging.write(".jpg", b"poster")
            staging.write(".mp4", b"video")
            staging.publish("sd_video", (".jpg", ".mp4"))
            raise error

    with pytest.raises(error):
        row_refused()
    assert names(tmp_path) == []


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_while_flushing_leaves_nothing(tmp_path, monkeypatch, step, code):
    calls = 0
    real = os.fsync

    def fsync(handle):
        nonlocal calls
        calls += 1
        if calls > step:
            raise OSError(code, os.strerror(code))
        return real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DiskFull, match=str(tmp_path)):
        publish(tmp_path)
    assert names(tmp_path) == []


def test_no_room_in_the_block_is_a_full_disk(tmp_path):
    with pytest.raises(DiskFull) as caught, Staging(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.hint
    assert names(tmp_path) == []


def test_folders_made_for_a_clip_that_failed_go_with_it(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ZeroDivisionError), Staging(tmp_path / "there" / "new" / "videos"):
        raise ZeroDivisionError
    assert names(tmp_path) == ["there"]
    assert names(tmp_path / "there") == []


def test_a_folder_somebody_uses_by_now_stays(tmp_path):
    def fail_beside_somebody_else() -> None:
        with Staging(tmp_path / "new" / "videos"):
            (tmp_path / "new" / "theirs").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_beside_somebody_else()
    assert names(tmp_path / "new") == ["theirs"]


def test_other_errors_of_the_block_stay_what_they_are(tmp_path):
    with pytest.raises(ConnectionResetError), Staging(tmp_path):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_a_limit_on_the_size_of_files_leaves_nothing(tmp_path):
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from svd_local.errors import DiskFull; from svd_local.storage import Staging\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    with Staging(Path(sys.argv[1])) as staging: staging.write('.mp4', bytes(100_000))\n"
        "except DiskFull: print('full')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "full\n"
    assert names(tmp_path) == []


def publish_video(folder: Path, content: bytes | None, **options) -> None:
    with Staging(folder) as staging:
        if content is not None:
            staging.path(".mp4").write_bytes(content)
        staging.publish("sd_video", (".mp4",), **options)


@pytest.mark.parametrize(
    ("content", "lengths"),
    [(None, None), (b"", None), (b"short", {".mp4": 500}), (b"long", {".mp4": 3})],
)
def test_a_file_missing_or_of_the_wrong_length_is_not_published(tmp_path, content, lengths):
    with pytest.raises(StorageFailed, match=r"clip\.mp4"):
        publish_video(tmp_path, content, lengths=lengths)
    assert names(tmp_path) == []


def test_a_write_that_was_cut_short_is_not_published(tmp_path):
    with Staging(tmp_path) as staging:
        os.truncate(staging.write(".mp4", b"video"), 3)
        with pytest.raises(StorageFailed, match="3 bytes instead of 5"):
            staging.publish("sd_video", (".mp4",))


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="file/videos"), Staging(tmp_path / "file" / "videos"):
        pass


def test_dead_at_any_point_leaves_a_whole_clip_or_what_can_be_swept(tmp_path):
    done = subprocess.run(
        [sys.executable, HERE / "crash_points.py", HERE / "story_publish.py", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    deaths = json.loads(done.stdout)
    assert len(deaths) > 12, deaths
    second = {f"sd_video_20260102T030405679Z{suffix}" for suffix in (".mp4", ".jpg", ".json")}
    first = {f"{STEM}{suffix}" for suffix in (".mp4", ".jpg", ".json")}
    whole = 0
    for number, death in enumerate(deaths):
        folder = tmp_path / str(number)
        if (folder / "sd_video_20260102T030405679Z.mp4").exists():
            whole += 1
            assert second <= set(names(folder)), death
            assert (folder / "sd_video_20260102T030405679Z.mp4").read_bytes() == b"video"
        sweep(folder, older_than_s=0)
        left = set(names(folder))
        assert left in (first, first | second), death
        assert (second <= left) == (folder / "sd_video_20260102T030405679Z.mp4").exists()
        assert all((folder / name).read_bytes() == b"first" for name in first), death
    assert 2 <= whole < len(deaths)


def test_processes_with_one_timestamp_overwrite_nothing(tmp_path):
    count, workers = 20, ["a", "b", "c"]
    processes = [
        subprocess.Popen(
            [sys.executable, HERE / "story_race.py", tmp_path, name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in workers
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    videos = sorted(tmp_path.glob("*.mp4"))
    told = {path.read_text() for path in videos}
    assert told == {f"{name}-{number}" for name in workers for number in range(count)}
    assert all(path.with_suffix(".jpg").read_text() == path.read_text() for path in videos)
    assert len(names(tmp_path)) == 2 * len(videos) == 2 * count * len(workers)
