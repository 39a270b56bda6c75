import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.checkpoints import resolve
from svd_local.engine.loading import BF16, FP16, FP32, load, precision_for, safer_than
from svd_local.errors import CheckpointBroken, StorageFailed

Make = Callable[..., Path]


@pytest.fixture
def copied(tmp_path: Path, tiny_models: Path) -> Checkpoint:
    """The tiny checkpoint as a user's own folder, free to be damaged."""
    folder = tmp_path / "own"
    shutil.copytree(tiny_models / "tiny-svd", folder)
    return resolve(str(folder), tmp_path)


def test_the_precision_follows_the_device() -> None:
    assert precision_for("cpu") == FP32
    assert precision_for("cuda") == precision_for("cuda:1") == FP16
    assert safer_than(FP32) is None
    assert safer_than(BF16) == FP32


def test_it_loads_quietly_in_the_precision_asked_for(
    copied: Checkpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline = load(copied, "cpu", BF16)

    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.bfloat16}
    assert pipeline.vae.dtype == pipeline.image_encoder.dtype == torch.bfloat16
    assert capfd.readouterr() == ("", "")


def test_a_half_precision_variant_is_enough_for_the_cpu(tmp_path: Path, tiny_pipeline: Any) -> None:
    tiny_pipeline.save_pretrained(tmp_path / "half", variant="fp16", safe_serialization=True)

    pipeline = load(resolve(str(tmp_path / "half"), tmp_path), "cpu", FP32)

    assert pipeline.unet.dtype == torch.float32


def test_pickles_are_never_opened(copied: Checkpoint) -> None:
    assert copied.path is not None
    weights = copied.path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))

    with pytest.raises(CheckpointBroken, match="pickle"):
        load(copied, "cpu", FP32)


def test_a_truncated_file_is_found_before_it_is_loaded(copied: Checkpoint) -> None:
    assert copied.path is not None
    weights = copied.path / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(CheckpointBroken, match=r"vae: .* is truncated"):
        load(copied, "cpu", FP32)


def test_whole_files_of_another_architecture_are_called_broken(copied: Checkpoint) -> None:
    assert copied.path is not None
    weights = copied.path / "vae" / "diffusion_pytorch_model.safetensors"
    shutil.copy(copied.path / "unet" / "diffusion_pytorch_model.safetensors", weights)

    with pytest.raises(CheckpointBroken, match=r"another architecture: its vae lacks .* weights"):
        load(copied, "cpu", FP32)


def test_a_models_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")

    with pytest.raises(StorageFailed, match="tiny checkpoint could not be written"):
        load(resolve("tiny-svd", tmp_path / "models"), "cpu", FP32)


def test_synthetic_weights_need_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from svd_local.engine import synthetic
    from svd_local.engine.architecture import tiny

    asked = []

    def small(frames: int) -> Any:
        asked.append(frames)
        return tiny()

    monkeypatch.setattr(synthetic, "full_size", small)
    checkpoint = resolve("synthetic:svd", tmp_path)

    pipeline = load(checkpoint, "cpu", BF16)

    assert asked == [14]
    assert pipeline.unet.dtype == torch.bfloat16
    assert list(tmp_path.iterdir()) == []
