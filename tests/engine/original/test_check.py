"""What is no whole SVD in one file is refused, each with its own sentence."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.original_layout import CLIP, DECODER, ENCODER, UNET, tensors_of, write

from svd_local.engine.checkpoints import resolve
from svd_local.engine.loading import FP32, load
from svd_local.engine.verify import require_whole, verify
from svd_local.errors import CheckpointBroken

Tensors = dict[str, Any]
Change = Callable[[Tensors], Tensors]

IN = f"{UNET}input_blocks.0.0.weight"


def without(*prefixes: str) -> Change:
    return lambda found: {k: v for k, v in found.items() if not k.startswith(prefixes)}


def only(prefix: str, *, cut: bool = False) -> Change:
    return lambda found: {
        k.removeprefix(prefix if cut else ""): v for k, v in found.items() if k.startswith(prefix)
    }


def also(**tensors: torch.Tensor) -> Change:
    return lambda found: found | {key.replace("__", "."): tensor for key, tensor in tensors.items()}


def flat(found: Tensors) -> Tensors:
    """The UNet and the decoder of an image model."""
    return {k: v for k, v in found.items() if "time_" not in k and "mix_factor" not in k}


def lora(found: Tensors) -> Tensors:
    return {f"lora_unet_{n}.lora_up.weight": torch.zeros(2, 2) for n in range(3)}


def diffusers_unet(found: Tensors) -> Tensors:
    return {"down_blocks.0.resnets.0.conv1.weight": torch.zeros(2, 2)}


def image_decoder(found: Tensors) -> Tensors:
    return {
        k: v
        for k, v in found.items()
        if not (k.startswith(DECODER) and ("time_" in k or "mix_factor" in k))
    }


def other_shape(found: Tensors) -> Tensors:
    return found | {f"{UNET}out.2.weight": torch.zeros(4, 32, 1, 1)}


def smaller(found: Tensors) -> Tensors:
    return found | {IN: torch.zeros(96, 8, 3, 3)}


def other_numbers(found: Tensors) -> Tensors:
    return found | {f"{UNET}label_emb.0.0.weight": torch.zeros(128, 32)}


def eight_bits(found: Tensors) -> Tensors:
    key = f"{UNET}out.0.weight"
    return found | {key: found[key].to(torch.float8_e4m3fn)}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (without(f"{UNET}out.0."), "lacks 2 weights, model.diffusion_model.out.0.bias among them"),
        (without(f"{CLIP}proj"), f"lacks 1 weight, {CLIP}proj"),
        (without(f"{ENCODER}quant_conv.bias"), "lacks 1 weight, conditioner.embedders.3"),
        (
            also(control_model__x=torch.zeros(1)),
            "holds what is no part of Stable Video Diffusion: 1 weight, control_model.x",
        ),
        (
            other_shape,
            "has the wrong shapes: 1 weight, model.diffusion_model.out.2.weight, which is "
            "4x32x1x1 and should be 4x32x3x3",
        ),
        (eight_bits, "stores weights as F8_E4M3; F16, BF16, F32 can be read"),
        (without(IN), f"lacks its first layer, {IN}"),
        (flat, "is an image model such as Stable Diffusion: its UNet has no layers over time"),
        (lora, "is a LoRA"),
        (
            lambda found: found | lora(found),
            "is a LoRA",
        ),
        (only(UNET), "holds the UNet, but no VAE decoder and no image encoder"),
        (without(CLIP), "holds the UNet, but no image encoder"),
        (only(UNET, cut=True), "is a UNet alone, without the VAE and the image encoder"),
        (diffusers_unet, "is one network alone; give the folder around it"),
        (image_decoder, "has the decoder for single pictures; take the file without image_decoder"),
        (smaller, "is a video model of an unknown size: its first layer is [96, 8, 3, 3]"),
        (
            other_numbers,
            "is a relative of Stable Video Diffusion, such as SV3D: besides the picture it takes "
            "32 numbers instead of 96",
        ),
        (lambda _: {"a": torch.zeros(2)}, "is no Stable Video Diffusion"),
        (lambda _: {}, "is no Stable Video Diffusion"),
    ],
)
def test_what_is_wrong_is_named(
    tiny_tensors: Tensors, tmp_path: Path, change: Change, problem: str
) -> None:
    path = write(change(tiny_tensors), tmp_path / "svd.safetensors")
    checkpoint = resolve(str(path), tmp_path)

    problems = verify(checkpoint)

    assert [one for one in problems if f"svd.safetensors {problem}" in one], problems
    for use in (require_whole, lambda it: load(it, "cpu", FP32)):
        with pytest.raises(CheckpointBroken) as refused:
            use(checkpoint)
        assert refused.value.hint.startswith("Give a whole file of Stable Video Diffusion")


def test_every_problem_is_told(tiny_tensors: Tensors, tmp_path: Path) -> None:
    changed = without(f"{UNET}out.0.bias")(tiny_tensors) | {"x": torch.zeros(1)}
    path = write(other_shape(changed), tmp_path / "svd.safetensors")

    assert [one.split(" ")[1] for one in verify(resolve(str(path), tmp_path))] == [
        "lacks",
        "holds",
        "has",
    ]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data[:-9], "is truncated: "),
        (lambda data: data + b"more", "is too long: "),
        (lambda data: data[:50], "truncated within its header, or no safetensors file"),
        (lambda data: b"", "0 bytes long"),
        (lambda data: b"<html>not found</html>" * 9, "no safetensors file"),
        (lambda data: struct.pack("<Q", 3) + b"[1]", "unreadable header"),
    ],
)
def test_a_damaged_file_is_listed_and_says_what_is_wrong(
    tiny_file: Path, tmp_path: Path, damage: Callable[[bytes], bytes], problem: str
) -> None:
    from svd_local.engine.checkpoints import list_installed

    (tmp_path / "svd_xt.safetensors").write_bytes(damage(tiny_file.read_bytes()))

    [listed] = list_installed(tmp_path)
    [told] = verify(listed)
    assert told.startswith("svd_xt.safetensors")
    assert problem in told
    with pytest.raises(CheckpointBroken):
        require_whole(resolve("svd_xt", tmp_path))


def test_a_whole_file_has_no_problems(tiny_file: Path) -> None:
    assert verify(resolve(str(tiny_file), tiny_file.parent), checksums=True) == []


def test_a_file_that_went_away_is_said_so(tiny_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "svd.safetensors"
    path.write_bytes(tiny_file.read_bytes())
    checkpoint = resolve("svd", tmp_path)
    path.unlink()

    assert "cannot be read" in verify(checkpoint)[0]
    with pytest.raises(CheckpointBroken):
        _ = checkpoint.revision


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".CKPT"])
def test_a_pickle_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"svd_xt{suffix}"
    path.write_bytes(b"\x80\x04")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("opened"))

    for name in (str(path), path.name):
        with pytest.raises(CheckpointBroken, match="is a pickle, which can run code") as refused:
            resolve(name, tmp_path)
        assert "safetensors" in refused.value.hint


def test_a_pickle_of_that_name_explains_why_nothing_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.ckpt").write_bytes(b"\x80\x04")

    with pytest.raises(CheckpointBroken, match="is a pickle"):
        resolve("mine", tmp_path)


def test_the_hubs_cache_is_checked_by_the_name_of_its_blob(tiny_file: Path, tmp_path: Path) -> None:
    import hashlib

    data = tiny_file.read_bytes()
    blob = tmp_path / "blobs" / hashlib.sha256(data).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(data)
    link = tmp_path / "svd_xt.safetensors"
    link.symlink_to(blob)
    checkpoint = resolve(str(link), tmp_path)

    assert verify(checkpoint, checksums=True) == []
    blob.write_bytes(data[:-1] + b"\x01")
    assert verify(checkpoint) == []
    assert verify(checkpoint, checksums=True) == [
        "svd_xt.safetensors is damaged: its checksum is wrong"
    ]


def test_a_vae_of_ones_own_folder_is_one_network(tiny_models: Path, tmp_path: Path) -> None:
    """The networks of a folder, given one by one."""
    for part, tensors in tensors_of(tiny_models / "tiny-svd").items():
        path = write(tensors, tmp_path / f"{part}.safetensors")
        assert "is one network alone" in verify(resolve(str(path), tmp_path))[0]


def test_no_torch_is_needed(tiny_file: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from svd_local.engine.checkpoints import list_installed\n"
        "from svd_local.engine.sizes import sizes_of\n"
        "from svd_local.engine.verify import verify\n"
        f"[one] = list_installed(Path({str(tiny_file.parent)!r}))\n"
        "assert verify(one) == [] and one.revision and sizes_of(one).unet_parameters\n"
        "assert not {'torch', 'diffusers', 'numpy', 'safetensors'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
