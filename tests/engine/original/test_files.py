"""Single files by name and by path, what they are made for, and what they are called."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.original_layout import originals, write

from svd_local.engine import identity
from svd_local.engine.architecture import COMPONENTS, build, full_size
from svd_local.engine.blueprint import blueprint_of
from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.checkpoints import list_installed, resolve
from svd_local.engine.original.recognise import frames_of
from svd_local.engine.sizes import sizes_of
from svd_local.engine.verify import verify
from svd_local.errors import CheckpointBroken, CheckpointUnavailable, CheckpointUnknown


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def placed(models: Path, tiny_file: Path) -> Any:
    """Puts the file into the models folder under a name."""

    def place(name: str = "svd_xt.safetensors") -> Path:
        return Path(shutil.copy(tiny_file, models / name))

    return place


@pytest.mark.parametrize(
    "name",
    ["svd_xt", "svd_xt.safetensors", "svd-xt", "stabilityai/stable-video-diffusion-img2vid-xt"],
)
def test_a_file_in_the_models_folder_has_its_stem_and_its_alias(
    models: Path, placed: Any, name: str
) -> None:
    path = placed()

    found = resolve(name, models)

    assert (found.name, found.path, found.source) == ("svd_xt", path, "models-folder")
    assert (found.layout, found.synthetic, found.licence) == ("original", True, None)


def test_it_is_the_default_like_any_other(models: Path, placed: Any) -> None:
    placed("svd.safetensors")
    assert resolve(None, models).name == "svd"
    placed("svd_xt.safetensors")
    assert resolve(None, models).name == "svd_xt"


def test_by_path(
    models: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my" / "files").mkdir(parents=True)
    shutil.copy(tiny_file, tmp_path / "my" / "files" / "mine_xt.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    for name in (
        str(tmp_path / "my" / "files" / "mine_xt.safetensors"),
        "my/files/mine_xt.safetensors",
        "./my/files/mine_xt.safetensors",
        "~/my/files/mine_xt.safetensors",
    ):
        found = resolve(name, models)
        assert (found.name, found.source) == ("mine_xt", "file")
        assert found.path == tmp_path / "my" / "files" / "mine_xt.safetensors"
    monkeypatch.chdir(tmp_path / "my" / "files")
    assert resolve("mine_xt.safetensors", models).source == "file"


def test_a_service_takes_names_only(
    models: Path, placed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(placed(), tmp_path / "secret.safetensors")
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "org" / "name" / "model_index.json").write_text("{}")
    monkeypatch.chdir(tmp_path)

    assert resolve("svd_xt", models, allow_paths=False).name == "svd_xt"
    assert resolve("svd_xt.safetensors", models, allow_paths=False).name == "svd_xt"
    for name in ("secret.safetensors", "../secret.safetensors", "models/svd_xt.safetensors"):
        with pytest.raises(CheckpointUnknown):
            resolve(name, models, allow_paths=False)
    with pytest.raises(CheckpointUnavailable):
        resolve("org/name", models, allow_paths=False)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/no/such/file.safetensors", "is no folder and no file"),
        ("no/such/file.safetensors", "is no folder and no file"),
        ("no_such_file.safetensors", "is not known"),
    ],
)
def test_what_is_not_there(models: Path, name: str, why: str) -> None:
    with pytest.raises(CheckpointUnknown, match=why) as unknown:
        resolve(name, models)

    assert ".safetensors file" in unknown.value.hint


def test_another_kind_of_file(models: Path, tmp_path: Path) -> None:
    (tmp_path / "svd.gguf").write_bytes(b"GGUF")

    with pytest.raises(CheckpointBroken, match=r"neither a folder nor a \.safetensors file"):
        resolve(str(tmp_path / "svd.gguf"), models)


def test_a_folder_with_nothing_but_such_a_file_says_how_to_give_it(
    models: Path, tiny_file: Path
) -> None:
    with pytest.raises(CheckpointBroken, match=r"only the single file svd_xt\.safetensors") as told:
        resolve(str(tiny_file.parent), models)

    assert f"--checkpoint {tiny_file}" in told.value.hint


def test_the_list_has_them_and_leaves_other_models_out(
    models: Path, placed: Any, make_checkpoint: Any, make_safetensors: Any
) -> None:
    make_checkpoint(models / "svd", frames=14)
    for name in ("svd.safetensors", "svd_xt.safetensors"):
        placed(name)
    (models / "sd15.safetensors").write_bytes(
        make_safetensors({"model.diffusion_model.input_blocks.0.0.weight": [4, 4]})
    )
    (models / "sd15.ckpt").write_bytes(b"\x80\x04")

    listed = list_installed(models)

    assert [one.name for one in listed] == ["svd", "svd.safetensors", "svd_xt"]
    # Each is found again under the name it is listed by.
    assert [resolve(one.name, models) for one in listed] == listed


@pytest.mark.parametrize(
    ("stem", "frames"),
    [
        ("svd", 14),
        ("svd-fp16", 14),
        ("SVD", 14),
        ("stable-video-diffusion-img2vid", 14),
        ("svd_xt", 25),
        ("svd_xt_1_1", 25),
        ("svdxt-fp16", 25),
        ("stable-video-diffusion-img2vid-xt-1-1", 25),
        ("my_svd_14frames", 14),
        ("svd_tuned_20f", 20),
        ("svd_1f", None),
        ("my_svd", None),
        ("xtreme", None),
        ("model", None),
    ],
)
def test_a_name_may_tell_the_frames(stem: str, frames: int | None) -> None:
    assert frames_of(stem) == frames


def real(models: Path, name: str, make_safetensors: Any, **metadata: str) -> Path:
    """A file that looks full-size as far as it is looked at for being listed."""
    prefix = "model.diffusion_model."
    data = make_safetensors(
        {
            f"{prefix}input_blocks.0.0.weight": [320, 8, 3, 3],
            f"{prefix}label_emb.0.0.weight": [1280, 768],
            f"{prefix}input_blocks.1.0.time_stack.in_layers.0.weight": [320],
            "first_stage_model.decoder.conv_in.weight": [4],
            "first_stage_model.decoder.mid.block_1.time_stack.in_layers.0.weight": [4],
            "conditioner.embedders.0.open_clip.model.visual.proj": [4],
        },
        metadata=metadata,
    )
    path = models / name
    path.write_bytes(data)
    return path


def test_the_frames_of_the_published_files(models: Path, make_safetensors: Any) -> None:
    for name in ("svd.safetensors", "svd_xt.safetensors", "svd_xt_1_1.safetensors"):
        real(models, name, make_safetensors)

    listed = list_installed(models)

    assert [(one.name, one.frames) for one in listed] == [
        ("svd", 14),
        ("svd_xt", 25),
        ("svd_xt_1_1", 25),
    ]
    assert {(one.width, one.height, one.synthetic, one.notes) for one in listed} == {
        (1024, 576, False, ())
    }
    assert all(one.licence for one in listed)


def test_a_title_may_tell_them(models: Path, make_safetensors: Any) -> None:
    real(models, "model.safetensors", make_safetensors, **{"modelspec.title": "SVD"})

    assert resolve("model", models).frames == 14


def test_what_nothing_tells_is_assumed_and_said(models: Path, make_safetensors: Any) -> None:
    path = real(models, "my_tune.safetensors", make_safetensors)

    found = resolve("my_tune", models)
    (models / "my_tune.svd_local.json").write_text('{"frames": 14, "width": 768, "height": 448}')
    described = resolve("my_tune", models)

    assert found.frames == 25
    assert found.notes == (
        f"nothing in {path.name} says whether it is made for 14 or 25 frames: 25 it is, "
        'unless my_tune.svd_local.json says {"frames": 14}',
    )
    assert (described.frames, described.width, described.height) == (14, 768, 448)
    assert described.notes == ()
    assert described.to_json()["notes"] == []


def test_a_description_for_all_files_of_a_folder(models: Path, make_safetensors: Any) -> None:
    real(models, "one.safetensors", make_safetensors)
    real(models, "two.safetensors", make_safetensors)
    (models / "svd_local.json").write_text('{"frames": 14, "width": 512}')
    (models / "two.svd_local.json").write_text('{"frames": 20}')

    one, two = list_installed(models)

    assert (one.frames, one.width) == (14, 512)
    assert (two.frames, two.width) == (20, 512)


def test_a_description_that_means_nothing(models: Path, make_safetensors: Any) -> None:
    real(models, "one.safetensors", make_safetensors)
    (models / "one.svd_local.json").write_text('{"frames": "many"}')

    with pytest.raises(CheckpointBroken, match=r"'many' is no frame count"):
        resolve("one", models)


def test_the_tiny_one_is_synthetic_and_small(models: Path, placed: Any) -> None:
    placed("anything.safetensors")

    found = resolve("anything", models)

    assert (found.width, found.height, found.frames) == (256, 144, 14)
    assert found.synthetic
    assert found.notes == ()


def test_sizes_and_blueprint_are_the_folders(
    models: Path, placed: Any, tiny_models: Path, tmp_path: Path
) -> None:
    placed()
    folder = resolve(str(tiny_models / "tiny-svd"), models)

    assert sizes_of(resolve("svd_xt", models)) == sizes_of(folder)
    assert blueprint_of(resolve("svd_xt", models)) == blueprint_of(folder)


class TestRevision:
    def test_equal_content_has_one_wherever_it_lies(
        self, models: Path, placed: Any, tiny_file: Path
    ) -> None:
        path = placed("renamed.safetensors")
        os.utime(path, (1, 1))
        (models / "svd_local.json").write_text('{"width": 512}')

        here, there = resolve("renamed", models), resolve(str(tiny_file), models)

        assert here.revision == there.revision
        assert len(here.revision) == 16

    def test_other_weights_have_another(
        self, models: Path, tiny_tensors: dict[str, Any], placed: Any
    ) -> None:
        key = "model.diffusion_model.middle_block.1.proj_in.weight"
        changed = tiny_tensors | {key: tiny_tensors[key] + 1e-3}
        write(changed, models / "other.safetensors")
        placed()

        assert resolve("other", models).revision != resolve("svd_xt", models).revision


@pytest.fixture
def full_size_file(models: Path) -> Path:
    """``svd_xt.safetensors`` with every weight of its real size, in a file that takes no room."""
    import torch

    with torch.device("meta"):
        pipeline = build(full_size(25))
    tensors = originals({name: getattr(pipeline, name).state_dict() for name in COMPONENTS})
    header, at = {}, 0
    for key, tensor in tensors.items():
        end = at + 4 * tensor.numel()
        header[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header).encode()
    path = models / "svd_xt.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + at)
    return path


def test_a_file_of_nine_gigabytes_is_looked_at_without_reading_it(
    models: Path, full_size_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = 0

    class Counting:
        def __init__(self) -> None:
            self._digest = hashlib.sha256()

        def update(self, data: bytes) -> None:
            nonlocal hashed
            hashed += len(data)
            self._digest.update(data)

        def hexdigest(self) -> str:
            return self._digest.hexdigest()

    monkeypatch.setattr(identity, "hashlib", SimpleNamespace(sha256=Counting))
    [found] = list_installed(models)

    assert full_size_file.stat().st_size > 9e9
    assert verify(found) == []
    assert (found.name, found.frames, found.width, found.synthetic) == ("svd_xt", 25, 1024, False)
    assert sizes_of(found) == sizes_of(resolve("synthetic:svd-xt", models))
    assert blueprint_of(found) == blueprint_of(resolve("synthetic:svd-xt", models))
    assert found.revision
    assert hashed < 2e6


def test_checkpoints_of_folders_say_their_layout(models: Path, make_checkpoint: Any) -> None:
    make_checkpoint(models / "svd", frames=14)
    found: Checkpoint = resolve("svd", models)

    assert found.to_json()["layout"] == "diffusers"
    assert found.architecture() is None
