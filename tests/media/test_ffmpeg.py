"""Whatever ffmpeg does, it ends in time, says why it failed, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from svd_local.errors import Cancelled, DiskFull, MediaFailed, StorageFailed
from svd_local.media import ffmpeg

Install = Callable[[str], Path]
Pid = Callable[[Path], int]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the fakes are shell scripts")


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def dies(pid: int, within_s: float = 2.0) -> bool:
    """An orphan is buried by init a moment after it was killed."""
    end = time.monotonic() + within_s
    while alive(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_version_is_the_number_alone() -> None:
    assert ffmpeg.version()[0].isdigit()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ffmpeg version n9.0.2-17-g2a571b6068-20260930 Copyright (c)", "9.0.2"),
        ("ffmpeg version 7.0.2-static https://johnvansickle.com/ffmpeg/", "7.0.2"),
        ("ffmpeg version 5.1.6-0+deb12u1 Copyright (c)", "5.1.6"),
        ("ffmpeg version N-12345-gabcdef Copyright (c)", "N-12345-gabcdef"),
    ],
)
def test_version_of_other_builds(fake_ffmpeg: Install, line: str, expected: str) -> None:
    fake_ffmpeg(f"echo '{line}'")
    assert ffmpeg.version() == expected


def test_a_program_that_is_no_ffmpeg_is_named(fake_ffmpeg: Install) -> None:
    path = fake_ffmpeg("echo 'GNU coreutils'")
    with pytest.raises(MediaFailed, match="GNU coreutils") as caught:
        ffmpeg.version()
    assert str(path) in caught.value.message


def test_finding_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen", refuse)
    assert ffmpeg.executable().is_file()


def test_a_named_ffmpeg_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    with pytest.raises(MediaFailed, match="/nowhere/ffmpeg") as caught:
        ffmpeg.executable()
    assert "unset it" in caught.value.hint


def test_a_named_ffmpeg_that_cannot_run(fake_ffmpeg: Install) -> None:
    fake_ffmpeg("").write_bytes(b"\x00\x01 no program")
    with pytest.raises(MediaFailed, match="cannot be started"):
        ffmpeg.run(["-version"], doing="start", deadline_s=5)


def test_the_systems_ffmpeg_is_the_last_resort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MediaFailed, match="no ffmpeg was found"):
        ffmpeg.executable()
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    assert ffmpeg.executable() == tmp_path / "ffmpeg"


def test_input_comes_out_again(fake_ffmpeg: Install) -> None:
    """More than the pipes hold, both ways at once."""
    fake_ffmpeg("exec cat")
    block = bytes(range(256)) * 4096
    finished = ffmpeg.run([], doing="copy", deadline_s=20, feed=[block] * 8)
    assert finished.output == block * 8


def test_a_buffer_may_be_filled_again(fake_ffmpeg: Install) -> None:
    fake_ffmpeg("sleep 0.1; exec cat")
    buffer = bytearray(1 << 20)

    def feed() -> Iterator[memoryview]:
        for value in range(4):
            buffer[:] = bytes([value]) * len(buffer)
            yield memoryview(buffer)

    output = ffmpeg.run([], doing="copy", deadline_s=20, feed=feed()).output
    assert output == b"".join(bytes([value]) * len(buffer) for value in range(4))


def test_failure_tells_what_ffmpeg_said(fake_ffmpeg: Install) -> None:
    fake_ffmpeg("echo chatter >&2; echo 'Unknown encoder libx264' >&2; exit 8")
    with pytest.raises(MediaFailed, match="could not encode it") as caught:
        ffmpeg.run([], doing="encode it", deadline_s=5)
    assert "Unknown encoder libx264" in caught.value.message
    assert "exit status 8" in caught.value.message
    assert caught.value.hint


def test_an_error_is_what_ffmpeg_complained_of(tmp_path: Path) -> None:
    """Its description of the input, addresses and marks are left out."""
    with pytest.raises(MediaFailed) as caught:
        ffmpeg.run(
            [*ffmpeg.usual_options("info"), "-i", f"file:{tmp_path}/missing.mp4"],
            doing="read it",
            deadline_s=10,
        )
    assert "Error opening input: No such file or directory" in caught.value.message
    assert "0x" not in caught.value.message
    assert "[" not in caught.value.message


def test_endless_chatter_neither_blocks_nor_floods(fake_ffmpeg: Install) -> None:
    fake_ffmpeg(
        "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo 'the reason' >&2; exit 1"
    )
    with pytest.raises(MediaFailed, match="the reason") as caught:
        ffmpeg.run([], doing="talk", deadline_s=20)
    assert len(caught.value.message) < 3000


@pytest.mark.parametrize(
    "script",
    [
        "echo 'av_interleaved_write_frame(): No space left on device' >&2; exit 1",
        "echo 'Error writing trailer: File too large' >&2; exit 1",
        f"kill -{int(signal.SIGXFSZ)} $$",
    ],
)
def test_no_room_is_told_from_other_failures(fake_ffmpeg: Install, script: str) -> None:
    fake_ffmpeg(script)
    with pytest.raises(DiskFull) as caught:
        ffmpeg.run([], doing="write", deadline_s=5)
    assert "Free some space" in caught.value.hint


def test_no_room_for_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageFailed, match="missing"):
        ffmpeg.run(["-version"], doing="start", deadline_s=5)


def test_stopping_to_read_is_a_failure(fake_ffmpeg: Install) -> None:
    """A zero exit status is not believed where frames were left over."""
    fake_ffmpeg("head -c 10 >/dev/null; exit 0")
    with pytest.raises(MediaFailed, match="stopped reading"):
        ffmpeg.run([], doing="encode", deadline_s=5, feed=[bytes(1 << 20)] * 4)


def test_a_hanging_ffmpeg_is_ended_with_its_group(
    fake_ffmpeg: Install, tmp_path: Path, no_children: Callable[[], bool], pid_in: Pid
) -> None:
    """Its helper, too, which holds standard output open."""
    fake_ffmpeg(f"sleep 60 & echo $! > {tmp_path}/helper; sleep 60")
    began = time.monotonic()
    with pytest.raises(MediaFailed, match=r"longer than the 0\.3 s"):
        ffmpeg.run([], doing="encode", deadline_s=0.3)
    assert time.monotonic() - began < 1.3
    assert dies(pid_in(tmp_path / "helper"))
    assert no_children()


def test_a_writer_blocked_by_a_stuck_ffmpeg_is_freed(
    fake_ffmpeg: Install, no_children: Callable[[], bool]
) -> None:
    fake_ffmpeg("sleep 60")
    threads = threading.active_count()
    began = time.monotonic()
    with pytest.raises(MediaFailed, match="longer than"):
        ffmpeg.run([], doing="encode", deadline_s=0.3, feed=[bytes(8 << 20)] * 2)
    assert time.monotonic() - began < 1.3
    assert no_children()
    assert threading.active_count() <= threads


def test_a_single_wait_has_its_own_limit(fake_ffmpeg: Install) -> None:
    fake_ffmpeg("echo one; sleep 60")
    began = time.monotonic()
    with pytest.raises(MediaFailed, match=r"did not move for 0\.3 s"):
        ffmpeg.run([], doing="read", deadline_s=30, stall_s=0.3)
    assert time.monotonic() - began < 1.3


def test_output_that_trickles_meets_the_deadline(fake_ffmpeg: Install) -> None:
    fake_ffmpeg("while true; do echo x; sleep 0.01; done")
    began = time.monotonic()
    with pytest.raises(MediaFailed, match="longer than"):
        ffmpeg.run([], doing="read", deadline_s=0.4)
    assert time.monotonic() - began < 1.4


def test_the_makers_time_is_not_ffmpegs(fake_ffmpeg: Install) -> None:
    """Frames that take long to make do not make ffmpeg late."""
    fake_ffmpeg("exec cat")

    def slow() -> Iterator[bytes]:
        for _ in range(2):
            time.sleep(0.4)
            yield b"frame"

    assert ffmpeg.run([], doing="copy", deadline_s=0.5, feed=slow()).output == b"frameframe"


def test_cancel_while_waiting(fake_ffmpeg: Install, no_children: Callable[[], bool]) -> None:
    fake_ffmpeg("sleep 60")
    asked_at = time.monotonic() + 0.2

    def check() -> None:
        if time.monotonic() > asked_at:
            raise Cancelled("cancelled by the caller")

    with pytest.raises(Cancelled):
        ffmpeg.run([], doing="encode", deadline_s=30, check=check)
    assert time.monotonic() - asked_at < 0.5
    assert no_children()


def test_cancel_between_buffers(fake_ffmpeg: Install, no_children: Callable[[], bool]) -> None:
    fake_ffmpeg("cat >/dev/null")
    given = 0

    def feed() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield bytes(1000)

    def check() -> None:
        if given >= 5:
            raise Cancelled("cancelled by the caller")

    with pytest.raises(Cancelled):
        ffmpeg.run([], doing="encode", deadline_s=30, feed=feed(), check=check)
    assert given == 5
    assert no_children()


def test_an_error_of_the_maker_is_passed_on(
    fake_ffmpeg: Install, no_children: Callable[[], bool]
) -> None:
    fake_ffmpeg("exec cat")

    def feed() -> Iterator[bytes]:
        yield b"frame"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ffmpeg.run([], doing="encode", deadline_s=30, feed=feed())
    assert no_children()


def test_killed_midway(
    fake_ffmpeg: Install, tmp_path: Path, no_children: Callable[[], bool], pid_in: Pid
) -> None:
    fake_ffmpeg(f"echo $$ > {tmp_path}/pid; cat >/dev/null")

    def feed() -> Iterator[bytes]:
        yield bytes(1000)
        os.kill(pid_in(tmp_path / "pid"), signal.SIGKILL)
        while True:
            yield bytes(1 << 20)

    with pytest.raises(MediaFailed, match="killed by signal 9"):
        ffmpeg.run([], doing="encode", deadline_s=30, feed=feed())
    assert no_children()


def test_a_reader_that_loses_interest(
    fake_ffmpeg: Install, no_children: Callable[[], bool]
) -> None:
    fake_ffmpeg("exec cat /dev/zero")
    threads = threading.active_count()
    with contextlib.closing(ffmpeg.stream([], doing="read", deadline_s=30)) as blocks:
        assert next(blocks).count(0) > 0
    assert no_children()
    assert threading.active_count() <= threads


def test_ctrl_c_reaches_us_alone(fake_ffmpeg: Install) -> None:
    """So that ffmpeg is ended by us, tidily, and not by the terminal."""
    fake_ffmpeg("ps -o pgid= -p $$ 2>/dev/null || cut -d' ' -f5 /proc/$$/stat")
    group = ffmpeg.run([], doing="tell its group", deadline_s=5).output
    assert int(group) != os.getpgrp()


def test_ffmpeg_writes_no_report_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FFREPORT", f"file={tmp_path}/report.log")
    ffmpeg.run(["-version"], doing="start", deadline_s=10)
    assert not (tmp_path / "report.log").exists()


def test_nothing_is_left_among_temporary_files(
    fake_ffmpeg: Install, temporary_folder: Path
) -> None:
    fake_ffmpeg("echo oops >&2; exit 1")
    with pytest.raises(MediaFailed):
        ffmpeg.run([], doing="fail", deadline_s=5)
    assert list(temporary_folder.iterdir()) == []


def test_runs_side_by_side_do_not_hold_each_others_pipes(fake_ffmpeg: Install) -> None:
    """A pipe inherited by a neighbour would never be seen to close."""
    fake_ffmpeg("exec cat")
    outputs: dict[int, bytes] = {}

    def copy(number: int) -> None:
        block = bytes([number]) * 100_000
        finished = ffmpeg.run([], doing="copy", deadline_s=20, feed=[block] * 20)
        outputs[number] = finished.output

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {number: bytes([number]) * 2_000_000 for number in range(6)}
