import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from svd_local.engine import tiny
from svd_local.engine.architecture import tiny as tiny_architecture
from svd_local.engine.values import Sampling
from svd_local.errors import StorageFailed


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_made_again_it_has_the_same_bytes(tmp_path: Path, tiny_models: Path) -> None:
    torch.manual_seed(99)  # whatever was drawn before does not matter

    again = tiny.ensure(tmp_path / "models")

    assert contents(again) == contents(tiny_models / tiny.NAME)


def test_two_at_once_find_one_whole_checkpoint(
    tmp_path: Path, tiny_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_are_writing = threading.Barrier(2)

    def make() -> Any:
        both_are_writing.wait(20)
        return tiny_pipeline

    monkeypatch.setattr(tiny, "make", make)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(tiny.ensure(tmp_path))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [tmp_path / tiny.NAME] * 2
    assert [path.name for path in tmp_path.iterdir()] == [tiny.NAME]
    assert "svd_local.json" in contents(tmp_path / tiny.NAME)


def test_a_failure_while_it_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise RuntimeError("power cut")

    monkeypatch.setattr(tiny, "make", fail)

    with pytest.raises(RuntimeError, match="power cut"):
        tiny.ensure(tmp_path / "models")

    assert list((tmp_path / "models").iterdir()) == []


def test_what_is_in_the_way_is_not_overwritten(
    tmp_path: Path, tiny_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "make", lambda: tiny_pipeline)
    (tmp_path / tiny.NAME).mkdir()
    (tmp_path / tiny.NAME / "notes.txt").write_text("mine")

    with pytest.raises(StorageFailed, match="in the way"):
        tiny.ensure(tmp_path)

    assert (tmp_path / tiny.NAME / "notes.txt").read_text() == "mine"


def test_a_clip_resembles_its_picture_and_moves(
    tiny_pipeline: Any, picture: Any, quick: Sampling
) -> None:
    picture = picture.resize((128, 64))

    frames = tiny_pipeline(
        picture,
        width=128,
        height=64,
        num_frames=4,
        num_inference_steps=8,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).frames[0]

    first = np.corrcoef(frames[0].ravel(), np.asarray(picture).ravel())[0, 1]
    change = np.abs(np.diff(frames, axis=0)).mean() * 255
    assert first > 0.6
    assert 1.0 < change < 40.0
    assert 40 < frames.mean() * 255 < 215


def test_the_documents_count_its_parameters_right() -> None:
    counted = sum(tiny_architecture().parameters.values()) / 1e6
    root = Path(__file__).parents[2]
    for document in ("README.md", "models/README.md"):
        [said] = re.findall(r"([\d.]+) M random", (root / document).read_text(encoding="utf-8"))
        assert said == f"{counted:.1f}", document
