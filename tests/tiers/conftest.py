"""Jobs for tiers on other machines, and the video a service would send."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from svd_local.keyframe.types import Keyframe
from svd_local.request import ClipRequest
from svd_local.tiers.base import Frames, Job, Monitor, Tier
from svd_local.tiers.local import LocalTier


@pytest.fixture
def make_job() -> Callable[..., Job]:
    """``make_job(tier, **request fields)``: the job a generator would give the tier."""

    def make(tier: Tier, *, monitor: Monitor | None = None, **fields: Any) -> Job:
        defaults: dict[str, Any] = {"prompt": "a pump", "image": b"picture", "size": (128, 72)}
        request = ClipRequest(**{**defaults, **fields})
        plan = tier.plan(request)
        if plan.parameters.get("seed", 0) is None:
            plan = plan.seeded(7)
        keyframes = ()
        if plan.pictures != "none":
            image = Image.new("RGB", plan.size, (10, 200, 30))
            keyframes = (Keyframe(image, "ab" * 32, "picture"),)
        return Job(request, plan, keyframes, monitor or Monitor())

    return make


@pytest.fixture
def temp_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder temporary files go to, which must be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


class Stopwatch:
    def __enter__(self) -> Stopwatch:
        self._wall, self._cpu = time.monotonic(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._wall
        self.cpu_s = time.process_time() - self._cpu


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def read() -> Callable[[Frames], np.ndarray]:
    """All frames of a tier's answer in RGB, as one array, checked against what it says of itself."""
    from svd_local.media.planar import to_rgb

    def read(frames: Frames) -> np.ndarray:
        pixels = np.concatenate(list(frames.chunks))
        if frames.pixels == "yuv420p":
            assert pixels.shape == (frames.count, frames.height * 3 // 2, frames.width)
            pixels = np.stack([to_rgb(frame) for frame in pixels])
        assert pixels.shape == (frames.count, frames.height, frames.width, 3)
        assert pixels.dtype == np.uint8
        return pixels

    return read


@pytest.fixture
def tier(tiny_models: Path) -> Iterator[LocalTier]:
    """The local tier, with nothing but ``tiny-svd`` in its models folder."""
    made = LocalTier(models_dir=tiny_models)
    yield made
    made.close()
