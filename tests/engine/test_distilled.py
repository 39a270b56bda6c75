"""Distilled UNets: found, checked and loaded in the place of a checkpoint's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from svd_local.engine.checkpoints import list_installed, resolve, resolve_distilled
from svd_local.engine.consistency import ConsistencyScheduler
from svd_local.engine.loading import FP16, FP32, load
from svd_local.engine.session import Session
from svd_local.engine.takes import gathered
from svd_local.engine.values import Sampling
from svd_local.engine.verify import require_whole, verify
from svd_local.errors import CheckpointBroken, CheckpointUnavailable


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path, tiny_pipeline: Any) -> Path:
    """A models folder with ``tiny-svd`` and ``few-steps``, other random weights for its UNet."""
    from safetensors.torch import save_file

    folder = tmp_path / "models"
    (folder / "few-steps").mkdir(parents=True)
    (folder / "tiny-svd").symlink_to(tiny_models / "tiny-svd", target_is_directory=True)
    (folder / "few-steps" / "svd_local.json").write_text('{"distilled_from": "tiny-svd"}')
    noise = torch.Generator().manual_seed(4)
    weights = {
        name: weight + 0.02 * torch.randn(weight.shape, generator=noise)
        for name, weight in tiny_pipeline.unet.state_dict().items()
    }
    save_file(weights, folder / "few-steps" / "unet.safetensors")
    return folder


def test_it_is_found_by_name_and_by_what_it_belongs_to(models: Path) -> None:
    for name in ("few-steps", "tiny-svd"):
        found = resolve_distilled(name, models)
        assert (found.name, found.source, found.synthetic) == ("few-steps", "models-folder", True)
        assert (found.width, found.height, found.frames) == (256, 144, 14)
        assert found.to_json()["base"] == "tiny-svd"
    assert resolve("few-steps", models) == found
    assert resolve("tiny-svd", models).unet is None
    assert [one.name for one in list_installed(models)] == ["tiny-svd", "few-steps"]
    assert verify(found, checksums=True) == []


def test_its_revision_follows_both_files(models: Path) -> None:
    before = resolve("few-steps", models).revision
    assert before.startswith(resolve("tiny-svd", models).revision + "+")

    file = models / "few-steps" / "unet.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)

    assert resolve("few-steps", models).revision != before


def test_its_weights_and_scheduler_take_the_place_of_the_checkpoints(models: Path) -> None:
    from safetensors.torch import load_file

    base, found = resolve("tiny-svd", models), resolve("few-steps", models)
    untouched = base.revision
    weights = load_file(models / "few-steps" / "unet.safetensors")

    for precision in (FP32, FP16):
        pipeline = load(found, "cpu", precision)
        for name, weight in pipeline.unet.named_parameters():
            assert torch.equal(weight, weights[name].to(precision.of_torch()))
        assert isinstance(pipeline.scheduler, ConsistencyScheduler)
    assert base.revision == untouched
    assert verify(base, checksums=True) == []


def test_both_engines_make_its_clip_through_a_session(
    models: Path, picture: Any, quick: Sampling
) -> None:
    import dataclasses

    sampling = dataclasses.replace(quick, steps=4, schedule="consistency", guidance=(1.0, 1.2))
    session = Session(resolve("few-steps", models), "cpu")
    wanted = gathered(session.make(picture, sampling, engine="reference")).frames
    made = gathered(session.make(picture, sampling, engine="fused"))
    session.close()

    apart = np.abs(made.frames.astype(int) - wanted)
    assert (apart <= 1).mean() >= 0.999
    assert made.memory.predicted_peak_bytes == pytest.approx(
        made.memory.measured_peak_bytes, rel=0.1
    )


def _drop(weights: dict[str, Any]) -> None:
    del weights["conv_in.weight"]


def _reshape(weights: dict[str, Any]) -> None:
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :5].contiguous()


def _add(weights: dict[str, Any]) -> None:
    weights["adapter.weight"] = torch.zeros(2)


@pytest.mark.parametrize(
    ("spoil", "named"), [(_drop, "conv_in"), (_reshape, "conv_in"), (_add, "adapter")]
)
def test_a_file_of_another_architecture_is_refused_before_it_loads(
    models: Path, spoil: Callable[[dict[str, Any]], None], named: str
) -> None:
    from safetensors.torch import load_file, save_file

    file = models / "few-steps" / "unet.safetensors"
    weights = load_file(file)
    spoil(weights)
    save_file(weights, file)

    with pytest.raises(CheckpointBroken, match=f"architecture: 1 weights differ, {named}"):
        require_whole(resolve("few-steps", models))


def test_a_truncated_file_is_refused(models: Path) -> None:
    file = models / "few-steps" / "unet.safetensors"
    file.write_bytes(file.read_bytes()[:-7])

    [problem] = verify(resolve("few-steps", models))
    assert "truncated" in problem


def test_a_folder_holds_one_file(models: Path) -> None:
    (models / "few-steps" / "another.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointBroken, match="holds 2 safetensors files"):
        resolve("few-steps", models)
    for file in (models / "few-steps").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(CheckpointBroken, match="holds no safetensors file"):
        resolve("few-steps", models)


def _another(models: Path, name: str, data: bytes | None, file: str = "unet.safetensors") -> Path:
    """One more folder for ``tiny-svd``, with the whole file of ``few-steps`` where ``data`` is None."""
    (models / name).mkdir()
    (models / name / "svd_local.json").write_text('{"distilled_from": "tiny-svd"}')
    whole = models / "few-steps" / "unet.safetensors"
    if data is None:
        (models / name / file).symlink_to(whole)
    else:
        (models / name / file).write_bytes(data)
    return models / name / file


def test_of_several_the_first_whole_one_is_taken_and_the_others_are_told(models: Path) -> None:
    whole = (models / "few-steps" / "unet.safetensors").read_bytes()
    _another(models, "a-truncated", whole[:-7])
    _another(models, "b-pickle", b"\x80\x02", "unet.bin")
    _another(models, "z-linked", None)

    found = resolve_distilled("tiny-svd", models)

    assert found.name == "few-steps"
    taken, truncated, pickle = found.notes
    assert taken == (
        "few-steps was taken of 2 distilled UNets for tiny-svd; --checkpoint names another: z-linked"
    )
    assert truncated.startswith("a-truncated was passed over: ")
    assert "truncated" in truncated.partition(": ")[2]
    assert pickle.startswith("b-pickle was passed over: ")
    assert "holds no safetensors file" in pickle
    # One that is damaged hides no other, and a name is taken at its word.
    listed = {one.name: verify(one) for one in list_installed(models)}
    assert [name for name, problems in listed.items() if problems] == ["a-truncated", "b-pickle"]
    assert resolve_distilled("z-linked", models).notes == ()
    with pytest.raises(CheckpointBroken, match="no safetensors file"):
        resolve_distilled("b-pickle", models)


def test_where_all_are_damaged_each_is_told(models: Path) -> None:
    (models / "few-steps" / "unet.safetensors").write_bytes(b"")
    _another(models, "b-pickle", b"\x80\x02", "unet.bin")

    with pytest.raises(CheckpointBroken, match="no distilled UNet for checkpoint tiny") as broken:
        resolve_distilled("tiny-svd", models)
    for name in ("b-pickle", "few-steps"):
        assert f"{name} was passed over" in broken.value.message
    assert str(models / "b-pickle") in broken.value.hint


def test_one_of_no_use_hides_no_other_from_the_list(models: Path) -> None:
    file = _another(models, "of-itself", None)
    (file.parent / "svd_local.json").write_text('{"distilled_from": "few-steps"}')

    *_, listed = list_installed(models)

    assert listed.name == "of-itself"
    [problem] = verify(listed)
    assert "which is itself distilled" in problem


def test_the_hint_for_a_wrong_file_says_what_belongs_there(models: Path) -> None:
    vae = next((models / "tiny-svd" / "vae").glob("*.safetensors"))
    (models / "few-steps" / "unet.safetensors").write_bytes(vae.read_bytes())

    with pytest.raises(CheckpointBroken, match="no UNet of tiny-svd's architecture") as wrong:
        require_whole(resolve("few-steps", models))

    assert "the whole UNet" in wrong.value.hint
    assert str(models / "few-steps") in wrong.value.hint


def test_what_it_belongs_to_must_be_there(
    tmp_path: Path, make_safetensors: Callable[..., bytes]
) -> None:
    folder = tmp_path / "animatelcm-svd-xt"
    folder.mkdir()
    (folder / "AnimateLCM-SVD-xt.safetensors").write_bytes(make_safetensors({"a": [2]}))

    with pytest.raises(CheckpointUnavailable, match="the UNet of svd-xt, which is not") as missing:
        resolve("animatelcm-svd-xt", tmp_path)

    assert (missing.value.hint, missing.value.missing) == (
        "Run: svd-local models pull svd-xt",
        "svd-xt",
    )
    [listed] = list_installed(tmp_path)
    assert (listed.base, listed.to_json()["base"]) == (None, "svd-xt")
    assert verify(listed) == ["svd-xt, whose UNet it replaces, is not installed"]


def test_where_none_is_installed_the_hint_says_how(
    tmp_path: Path, make_checkpoint: Callable[..., Path]
) -> None:
    make_checkpoint(tmp_path / "svd-xt")
    for name in (None, "svd-xt", "animatelcm-svd-xt"):
        with pytest.raises(CheckpointUnavailable) as missing:
            resolve_distilled(name, tmp_path)
        assert missing.value.hint == "Run: svd-local models pull animatelcm-svd-xt"
    make_checkpoint(tmp_path / "svd")
    with pytest.raises(CheckpointUnavailable, match="no distilled UNet for checkpoint svd "):
        resolve_distilled("svd", tmp_path)


def test_one_without_files_to_replace_is_refused(models: Path) -> None:
    settings = models / "few-steps" / "svd_local.json"
    for base in ("synthetic:svd-xt", "few-steps"):
        settings.write_text(json.dumps({"distilled_from": base}))
        with pytest.raises(CheckpointBroken):
            resolve("few-steps", models)
