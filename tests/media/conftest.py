"""What the media tests share: small moving pictures, and made-up ffmpegs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from svd_local.media.encode import encode_video, encoder_settings


def moving_picture(count: int, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth colours that drift; every frame differs. Shape (count, height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    frames = []
    for index in range(count):
        drift = x + 2 * index
        channels = (
            127 + 100 * np.sin(drift / 23 + y / 31),
            127 + 90 * np.cos(drift / 17),
            127 + 80 * np.sin(y / 19 + drift / 41),
        )
        frames.append(np.stack(channels, axis=-1).astype(np.uint8))
    return np.stack(frames)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound file: 14 frames of 96x64 at 7 frames a second, comment "made for tests"."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    encode_video(
        [moving_picture(14, 96, 64)],
        source_size=(96, 64),
        output_size=(96, 64),
        fps=7,
        target=path,
        settings=encoder_settings("fast"),
        comment="made for tests",
    )
    return path


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Call with a shell script; it is the ffmpeg from then on."""

    def install(script: str) -> Path:
        path = tmp_path / "fake-ffmpeg"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
        return path

    return install


@pytest.fixture
def pid_in() -> Callable[[Path], int]:
    """Call with the file a fake writes its number to, for the number, once it is there."""

    def read(path: Path) -> int:
        end = time.monotonic() + 5
        while not (path.exists() and path.read_text().strip()):
            assert time.monotonic() < end, f"{path} was never written"
            time.sleep(0.01)
        return int(path.read_text())

    return read


def _children() -> set[int]:
    """Child processes of this one, zombies among them."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


@pytest.fixture
def no_children() -> Callable[[], bool]:
    """Call to learn whether no child process was added since the test began, not even a zombie."""
    before = _children()
    return lambda: _children() <= before


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, this test's own, so that leftovers show."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder
