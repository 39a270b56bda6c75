"""Progress is drawn on a terminal, and only there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from svd_local.cli.progress import download_display, progress_display


def test_nobody_looking_nothing_drawn(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_display() as report, download_display() as on_bytes:
        assert report is None
        assert on_bytes is None
    assert capfd.readouterr().err == ""


def _on_a_terminal(code: str) -> str:
    """What a Python program shows on a terminal that is its standard error."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=child, stdout=subprocess.PIPE, env=environment
    )
    os.close(child)
    shown = b""
    while True:
        try:
            block = os.read(parent, 65536)
        except OSError:  # the other side of a terminal that was closed
            break
        if not block:
            break
        shown += block
    os.close(parent)
    out, _ = process.communicate(timeout=30)
    assert out == b""
    assert process.returncode == 0
    return shown.decode()


def test_a_terminal_shows_the_stage_the_step_and_the_tier() -> None:
    shown = _on_a_terminal(
        "from svd_local.cli.progress import progress_display\n"
        "from svd_local.result import Progress\n"
        "with progress_display('2/3 ') as report:\n"
        "    report(Progress('keyframe', tier='local'))\n"
        "    for step in range(8):\n"
        "        report(Progress('denoise', step, 25, tier='local'))\n"
    )
    assert "2/3 local denoising, step" in shown
    assert "7/25" in shown


def test_a_terminal_shows_what_is_being_waited_for() -> None:
    shown = _on_a_terminal(
        "import time\n"
        "from svd_local.cli.progress import progress_display\n"
        "from svd_local.result import Progress\n"
        "with progress_display() as report:\n"
        "    report(Progress('denoise', tier='webui'))\n"
        "    report(Progress('denoise', tier='webui', note='the model is loading'))\n"
        "    time.sleep(0.3)\n"
        "    report(Progress('download', 1, 4, tier='local', note='[weights]'))\n"
    )
    assert "(the model is loading)" in shown
    assert "local downloading, MB ([weights])" in shown
    assert "1/4" in shown


def test_a_download_shows_bytes_and_file() -> None:
    shown = _on_a_terminal(
        "from svd_local.cli.progress import download_display\n"
        "with download_display() as on_bytes:\n"
        "    on_bytes(1_000_000, 4_000_000, 'unet.safetensors')\n"
    )
    assert "unet.safetensors" in shown
    assert "1.0/4.0 MB" in shown


def test_standard_output_stays_clean_of_progress(tmp_path: Path) -> None:
    shown = _on_a_terminal(
        "import os\n"
        "os.environ['SVD_LOCAL_ENABLE_FAKE_TIER'] = '1'\n"
        f"os.environ['SVD_LOCAL_MEDIA_DIR'] = {str(tmp_path)!r}\n"
        "import contextlib, io\n"
        "from svd_local.cli import run\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    assert run(['generate', '--prompt', 'a', '--tier', 'fake']) == 0\n"
        "assert out.getvalue().endswith('.mp4\\n') and out.getvalue().count('\\n') == 1\n"
    )
    assert "fake" in shown
