"""``svd-local generate --engine`` on the tiny checkpoint: the same clip, whichever engine."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from svd_local.cli import run
from svd_local.tiers.base import Frames, Job
from svd_local.tiers.local import LocalTier


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    image = Image.linear_gradient("L").resize((128, 64)).convert("RGB")
    ImageDraw.Draw(image).ellipse((20, 10, 60, 50), fill=(230, 200, 60))
    path = tmp_path / "picture.png"
    image.save(path)
    return path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray[Any, Any]]:
    """The frames of each clip as they went to the video encoder, which changes them a little."""
    clips: list[np.ndarray[Any, Any]] = []
    generate = LocalTier.generate

    def watched(tier: LocalTier, job: Job) -> Frames:
        frames = generate(tier, job)

        def kept() -> Iterator[np.ndarray[Any, Any]]:
            chunks = []
            for chunk in frames.chunks:
                chunks.append(chunk)
                yield chunk
            clips.append(np.concatenate(chunks).astype(int))

        return dataclasses.replace(frames, chunks=kept())

    monkeypatch.setattr(LocalTier, "generate", watched)
    return clips


def test_both_engines_make_the_same_clip(
    picture: Path,
    seen: list[np.ndarray[Any, Any]],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
    monkeypatch.setenv("SVD_LOCAL_MODELS_DIR", str(shared / "tiny-models"))
    told = []
    for engine in ("reference", "fused"):
        command = ["generate", "--image", str(picture), "--tier", "local", "--device", "cpu"]
        command += ["--checkpoint", "tiny-svd", "--engine", engine, "--size", "128x64"]
        command += ["--steps", "3", "--seed", "7", "--json"]
        assert run(command) == 0
        told.append(json.loads(capfd.readouterr().out))

    reference, fused = seen
    apart = np.abs(fused - reference).max(axis=-1)
    assert fused.shape == (14, 64, 128, 3)
    assert np.ptp(fused) > 50
    assert (apart <= 1).mean() >= 0.999
    assert [clip["engine"] for clip in told] == ["reference", "fused"]
    assert [clip["cached"] for clip in told] == [False, False]  # never one in the other's place
    memory = told[1]["memory"]
    assert memory["plan"] == "resident"
    assert memory["predicted_peak_bytes"] == pytest.approx(memory["measured_peak_bytes"], rel=0.1)
