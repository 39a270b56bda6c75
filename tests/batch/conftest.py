from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.night import Night
from PIL import Image

from svd_local.batch import Manifest, read_manifest


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A folder with a picture in it and one outside of it."""
    folder = tmp_path / "course"
    (folder / "pictures").mkdir(parents=True)
    Image.new("RGB", (64, 36), "teal").save(folder / "pictures" / "desk.png")
    Image.new("RGB", (64, 36), "black").save(tmp_path / "private.png")
    return folder


@pytest.fixture
def opened(course: Path) -> Callable[..., Manifest]:
    """Writes a manifest into the course's folder and opens it."""

    def call(content: str | bytes, name: str = "lessons.csv", **options: Any) -> Manifest:
        path = course / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_manifest(path, **options)

    return call


@pytest.fixture
def night(tmp_path: Path, server: str) -> Night:
    return Night(tmp_path)
