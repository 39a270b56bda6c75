import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from svd_local.engine.checkpoints import resolve
from svd_local.engine.sizes import sizes_of
from svd_local.engine.verify import best_variant, require_whole, verify, weight_files
from svd_local.errors import CheckpointBroken

Make = Callable[..., Path]
Damage = Callable[[Path], object]

UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


@pytest.mark.parametrize("variant", ["fp16", None])
def test_a_whole_checkpoint_has_no_problems(
    tmp_path: Path, make_checkpoint: Make, variant: str | None
) -> None:
    make_checkpoint(tmp_path / "svd", variant=variant)

    assert verify(resolve("svd", tmp_path), checksums=True) == []


def test_the_one_made_here_is_whole(tiny_models: Path, tmp_path: Path) -> None:
    assert verify(resolve("tiny-svd", tiny_models), checksums=True) == []
    assert verify(resolve("tiny-svd", tmp_path)) == []
    assert verify(resolve("synthetic:svd", tmp_path)) == []


def truncate(folder: Path) -> None:
    data = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(data[:-2])


def pickle_only(folder: Path) -> None:
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.bin")


def other_class(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')


def shards(folder: Path, names: list[str]) -> None:
    (folder / UNET).unlink()
    index = {"weight_map": {f"tensor{n}": name for n, name in enumerate(names)}}
    path = folder / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json"
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (truncate, "unet: diffusion_pytorch_model.fp16.safetensors is truncated"),
        (lambda folder: (folder / UNET).unlink(), "unet has no safetensors weights"),
        (pickle_only, "a pickle, which can run code"),
        (other_class, "it is a StableDiffusionPipeline, not a StableVideoDiffusionPipeline"),
        (lambda folder: (folder / "vae/config.json").unlink(), "vae/config.json is missing"),
        (
            lambda folder: (folder / "vae/config.json").write_text("{"),
            "vae/config.json cannot be read",
        ),
        (
            lambda folder: (folder / "scheduler/scheduler_config.json").unlink(),
            "scheduler/scheduler_config.json is missing",
        ),
        (lambda folder: shards(folder, ["gone.safetensors"]), "unet/gone.safetensors is missing"),
        (lambda folder: shards(folder, ["../../x.safetensors"]), "not beside it"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, make_checkpoint: Make, damage: Damage, problem: str
) -> None:
    damage(make_checkpoint(tmp_path / "svd"))
    checkpoint = resolve("svd", tmp_path)

    problems = verify(checkpoint)

    assert any(problem in one for one in problems), problems
    with pytest.raises(CheckpointBroken) as refused:
        require_whole(checkpoint)
    assert refused.value.hint == "Run: svd-local models pull svd"


def test_shards_that_are_all_there_are_whole(
    tmp_path: Path, make_checkpoint: Make, make_safetensors: Callable[..., bytes]
) -> None:
    folder = make_checkpoint(tmp_path / "svd")
    names = [f"diffusion_pytorch_model-0000{n}-of-00002.fp16.safetensors" for n in (1, 2)]
    shards(folder, names)
    for name in names:
        (folder / "unet" / name).write_bytes(make_safetensors({"t": [6]}))

    assert verify(resolve("svd", tmp_path)) == []
    assert [path.name for path in weight_files(folder, "unet", "fp16")] == names
    assert sizes_of(resolve("svd", tmp_path)).unet_parameters == 12


def test_a_changed_byte_is_found_by_checksum_alone(tmp_path: Path, make_checkpoint: Make) -> None:
    folder = make_checkpoint(tmp_path / "svd")
    data = (folder / UNET).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    lock = {"files": {UNET: {"size": len(data), "sha256": digest}}}
    (folder / "svd_local.lock.json").write_text(json.dumps(lock))
    (folder / UNET).write_bytes(data[:-1] + b"\x01")
    checkpoint = resolve("svd", tmp_path)

    assert verify(checkpoint) == []
    assert [one.split(" is ")[0] for one in verify(checkpoint, checksums=True)] == [UNET]


def test_the_hubs_cache_is_checked_by_the_names_of_its_blobs(
    tmp_path: Path, make_checkpoint: Make
) -> None:
    root = tmp_path / "hub-cache" / "models--stabilityai--stable-video-diffusion-img2vid"
    folder = make_checkpoint(root / "snapshots" / ("e" * 40))
    data = (folder / UNET).read_bytes()
    blob = root / "blobs" / hashlib.sha256(data).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(data)
    (folder / UNET).unlink()
    (folder / UNET).symlink_to(blob)
    checkpoint = resolve("svd", tmp_path / "models")

    assert verify(checkpoint, checksums=True) == []
    blob.write_bytes(data[:-1] + b"\x01")
    assert verify(checkpoint, checksums=True) == [f"{UNET} is damaged: its checksum is wrong"]


def test_the_variant_follows_the_precision_and_what_is_there(
    tmp_path: Path, make_checkpoint: Make
) -> None:
    only_half = make_checkpoint(tmp_path / "half")
    only_plain = make_checkpoint(tmp_path / "plain", variant=None)
    both = make_checkpoint(make_checkpoint(tmp_path / "both"), variant=None)
    mixed = make_checkpoint(tmp_path / "mixed", variant=None)
    (mixed / UNET).write_bytes(b"")

    assert best_variant(only_half, half=False) == "fp16"
    assert best_variant(only_plain, half=True) is None
    assert (best_variant(both, half=True), best_variant(both, half=False)) == ("fp16", None)
    assert best_variant(mixed, half=True) is None


def test_sizes_come_from_headers_and_configuration(tmp_path: Path, make_checkpoint: Make) -> None:
    make_checkpoint(tmp_path / "svd")

    sizes = sizes_of(resolve("svd", tmp_path))

    assert (sizes.unet_parameters, sizes.vae_parameters, sizes.image_encoder_parameters) == (
        32,
        7,
        5,
    )
    assert (sizes.unet_width, sizes.encoder_width, sizes.decoder_width) == (320, 128, 256)
    assert sizes.largest_tensor == 32


def test_sizes_of_the_ones_made_here_equal_those_of_their_files(
    tmp_path: Path, tiny_models: Path
) -> None:
    by_constants = sizes_of(resolve("tiny-svd", tmp_path))

    by_files = sizes_of(resolve(str(tiny_models / "tiny-svd"), tmp_path))

    assert by_constants == by_files
