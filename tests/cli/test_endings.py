"""Endings a shell or a service manager brings about."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_COMMAND = (sys.executable, "-m", "svd_local")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SVD_LOCAL_MEDIA_DIR": str(tmp_path / "media"),
        "SVD_LOCAL_ENABLE_FAKE_TIER": "1",
        "SVD_LOCAL_FAKE_SECONDS": "60",
        "TMPDIR": str(tmp_path),
    }


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_being_told_to_end_is_cancelling(
    name: str, environment: dict[str, str], tmp_path: Path
) -> None:
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [*_COMMAND, "generate", "--prompt", "a", "--tier", "fake", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=inner,
        cwd=tmp_path,
    )
    os.close(inner)
    shown = b""
    while b"denoising" not in shown:
        shown += os.read(terminal, 4096)
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=30)
    os.close(terminal)
    assert process.returncode == 130
    document = json.loads(out)
    assert document["error"]["code"] == "cancelled"
    assert document["attempts"][-1]["code"] == "cancelled"
    assert list(tmp_path.iterdir()) == []


def test_interrupted_between_clips_the_finished_ones_are_told(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment["SVD_LOCAL_FAKE_SECONDS"] = "0.7"
    process = subprocess.Popen(
        [*_COMMAND, "generate", "--prompt", "a", "--tier", "fake", "--count", "50", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    videos = tmp_path / "media" / "videos"
    until = time.monotonic() + 60
    while not list(videos.glob("*.mp4")) and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.4)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    document = json.loads(out)
    assert (process.returncode, document["error"]["code"]) == (130, "cancelled")
    assert len(document["clips"]) == len(list(videos.glob("*.mp4"))) >= 1


def _status(standard_output: str, environment: dict[str, str], tmp_path: Path) -> tuple[int, str]:
    command = " ".join([*_COMMAND, "status", "--json", standard_output])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_reader_who_leaves_early_is_no_failure(
    environment: dict[str, str], tmp_path: Path
) -> None:
    assert _status("| true", environment, tmp_path) == (0, "")


@pytest.mark.parametrize("standard_output", [">&-", ">/dev/full"])
def test_an_answer_that_cannot_be_written_is_said(
    standard_output: str, environment: dict[str, str], tmp_path: Path
) -> None:
    status, told = _status(standard_output, environment, tmp_path)
    assert status == 1
    assert "standard output" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bad", b"SVD_LOCAL_VRAM_BUDGET=banana\n"])
def test_a_bad_env_file_is_an_error_in_words(
    content: bytes, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(content)
    status, told = _status("", environment, tmp_path)
    assert status == 2
    assert "Traceback" not in told


def test_without_torch_all_but_the_local_tier_works(
    environment: dict[str, str], tmp_path: Path
) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from svd_local.cli import run\n"
        "one = ['generate', '--prompt', 'a', '--json', '--tier']\n"
        "local = run([*one, 'local', '--device', 'cpu', '--checkpoint', 'tiny-svd'])\n"
        "stills = run([*one, 'image-sequence', '--duration', '0.5'])\n"
        "print(local, stills, run(['status', '--deep', '--json']), file=sys.stderr)\n"
    )
    environment["SVD_LOCAL_MODELS_DIR"] = str(tmp_path / "models")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr.split() == ["3", "0", "0"]
