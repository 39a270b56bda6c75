import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from svd_local.engine.checkpoints import resolve
from svd_local.engine.identity import revision_of
from svd_local.errors import CheckpointBroken

Make = Callable[..., Path]


def test_equal_content_has_one_name_wherever_it_lies(tmp_path: Path, make_checkpoint: Make) -> None:
    one = make_checkpoint(tmp_path / "one")
    shutil.copytree(one, tmp_path / "deep" / "copy")
    os.utime(tmp_path / "deep" / "copy" / "model_index.json", (1, 1))

    assert revision_of(one) == revision_of(tmp_path / "deep" / "copy")
    assert len(revision_of(one)) == 16


def test_what_pull_records_does_not_change_it(tmp_path: Path, make_checkpoint: Make) -> None:
    folder = make_checkpoint(tmp_path / "one")
    before = revision_of(folder)
    (folder / "svd_local.lock.json").write_text("{}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.json").write_text("{}")

    assert revision_of(folder) == before


def test_other_weights_of_the_same_shape_are_another_revision(
    tmp_path: Path, make_checkpoint: Make
) -> None:
    assert revision_of(make_checkpoint(tmp_path / "a", fill=1)) != revision_of(
        make_checkpoint(tmp_path / "b", fill=2)
    )


@pytest.mark.parametrize(
    "file", ["scheduler/scheduler_config.json", "unet/config.json", "svd_local.json"]
)
def test_configuration_counts(tmp_path: Path, make_checkpoint: Make, file: str) -> None:
    folder = make_checkpoint(tmp_path / "one")
    before = revision_of(folder)
    (folder / file).write_text('{"changed": 1}')

    assert revision_of(folder) != before


def test_a_damaged_file_has_no_revision(tmp_path: Path, make_checkpoint: Make) -> None:
    folder = make_checkpoint(tmp_path / "svd")
    weights = next(folder.glob("unet/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-3])

    with pytest.raises(CheckpointBroken, match="truncated"):
        _ = resolve("svd", tmp_path).revision
