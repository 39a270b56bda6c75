"""What is read from a single file is what the folder holds, bit for bit, down to the frames."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from helpers.original_layout import CLIP, ENCODER, originals, tensors_of, write

from svd_local.engine import session
from svd_local.engine.architecture import COMPONENTS
from svd_local.engine.checkpoints import resolve
from svd_local.engine.loading import BF16, FP16, FP32, load
from svd_local.engine.original import read
from svd_local.engine.takes import gathered
from svd_local.engine.values import Sampling


def assert_same(found: Any, wanted: Any) -> None:
    """The same tensors in every network, and nothing left without memory."""
    for name in COMPONENTS:
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for (key, a), b in zip(
            ours.state_dict().items(), theirs.state_dict().values(), strict=True
        ):
            assert a.dtype == b.dtype, key
            assert torch.equal(a, b), key
        for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
            assert torch.equal(a, b)
        assert not ours.training
        assert not any(weight.requires_grad for weight in ours.parameters())


def settings(config: Any) -> Any:
    """A configuration as it would be written, without what only says where it came from."""
    return json.loads(json.dumps({k: v for k, v in config.items() if not k.startswith("_")}))


def test_every_tensor_comes_back(tiny_file: Path, tiny_pipeline: Any) -> None:
    pipeline = load(resolve(str(tiny_file), tiny_file.parent), "cpu", FP32)

    assert_same(pipeline, tiny_pipeline)
    for name in ("unet", "vae", "scheduler"):
        found, wanted = (settings(getattr(one, name).config) for one in (pipeline, tiny_pipeline))
        assert found == wanted
    assert settings(pipeline.feature_extractor.to_dict()) == settings(
        tiny_pipeline.feature_extractor.to_dict()
    )


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_the_frames_are_the_folders(
    tiny_file: Path,
    tiny_models: Path,
    picture: Any,
    quick: Sampling,
    engine: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def aligned(*arguments: Any) -> Any:
        """As loaded, but where torch itself would have put the weights.

        The libraries leave a folder's weights mapped, at whatever address the file has them, and the
        matrix products of a CPU round by the address.
        """
        pipeline = load(*arguments)
        for name in COMPONENTS:
            for part in getattr(pipeline, name).modules():
                for own, weight in part._parameters.items():
                    if weight is not None:
                        part._parameters[own] = torch.nn.Parameter(weight.clone(), False)
        return pipeline

    monkeypatch.setattr(session, "load", aligned)
    names = ((str(tiny_file), tiny_file.parent), ("tiny-svd", tiny_models))
    found, wanted = (
        gathered(session.Session(resolve(*name), "cpu").make(picture, quick, engine=engine))
        for name in names
    )

    assert np.array_equal(found.frames, wanted.frames)
    assert found.engine == engine
    assert found.memory == wanted.memory


@pytest.mark.parametrize("precision", [FP16, BF16, FP32], ids=lambda one: one.name)
def test_a_half_precision_file_in_any_precision(
    tiny_tensors: dict[str, Any], tiny_models: Path, tmp_path: Path, precision: Any
) -> None:
    write(tiny_tensors, tmp_path / "svd.safetensors", dtype=torch.float16)
    wanted = load(resolve("tiny-svd", tiny_models), "cpu", FP16)
    for name in COMPONENTS:
        getattr(wanted, name).to(precision.of_torch())

    assert_same(load(resolve("svd", tmp_path), "cpu", precision), wanted)


def test_as_comfyui_saves_it(tiny_models: Path, tiny_pipeline: Any, tmp_path: Path) -> None:
    """The encoder in the first stage, its last convolution whole, and CLIP under transformers' names."""
    folder = tensors_of(tiny_models / "tiny-svd")
    found = {
        key.replace(f"{ENCODER}encoder.", "first_stage_model.encoder."): tensor
        for key, tensor in originals(folder).items()
        if not key.startswith((CLIP, f"{ENCODER}quant_conv."))
    }
    found |= {CLIP + key: tensor for key, tensor in folder["image_encoder"].items()}
    write(found, tmp_path / "merged_xt.safetensors")

    pipeline = load(resolve("merged_xt", tmp_path), "cpu", FP32)

    # The tiny checkpoint's own convolution is the identity, so that nothing else may differ.
    assert_same(pipeline, tiny_pipeline)


def test_one_weight_is_read_at_a_time(
    tiny_file: Path, tiny_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second copy of the weights: what was read is gone before the next is read, its pages soon."""
    alive: list[weakref.ref[torch.Tensor]] = []
    most = opened = 0

    class Watched:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            nonlocal opened
            opened += 1
            self._file: Any = safe_open(*arguments, **options)

        def __enter__(self) -> Watched:
            return self

        def __exit__(self, *_: object) -> None:
            self._file = None

        def keys(self) -> Any:
            return self._file.keys()

        def get_tensor(self, name: str) -> torch.Tensor:
            nonlocal most
            tensor: torch.Tensor = self._file.get_tensor(name)
            alive.append(weakref.ref(tensor))
            most = max(most, sum(one() is not None for one in alive))
            return tensor

    safe_open = safetensors.safe_open
    monkeypatch.setattr(safetensors, "safe_open", Watched)
    monkeypatch.setattr(read, "_MAPPED_ELEMENTS", 2**20)
    pipeline = load(resolve(str(tiny_file), tiny_file.parent), "cpu", FP32)

    weights = sum(len(getattr(pipeline, name).state_dict()) for name in COMPONENTS)
    assert (len(alive), most) == (weights, 1)
    assert opened >= 8
    assert_same(pipeline, tiny_pipeline)


def test_each_weight_has_memory_of_its_own(tiny_file: Path) -> None:
    """Neither the file's mapping nor a third of a fused projection's."""
    pipeline = load(resolve(str(tiny_file), tiny_file.parent), "cpu", FP32)
    for name in COMPONENTS:
        for weight in getattr(pipeline, name).parameters():
            assert weight.untyped_storage().nbytes() == weight.nbytes
            assert weight.is_contiguous()


def test_the_thirds_are_those_of_the_original_attention(
    tiny_file: Path, tiny_tensors: dict[str, Any]
) -> None:
    """OpenCLIP's blocks hold ``torch.nn.MultiheadAttention``; its answer must be the loaded one's."""
    encoder = load(resolve(str(tiny_file), tiny_file.parent), "cpu", FP32).image_encoder
    attention = encoder.vision_model.encoder.layers[1].self_attn
    width = attention.embed_dim
    original = torch.nn.MultiheadAttention(width, attention.num_heads, batch_first=True)
    prefix = f"{CLIP}transformer.resblocks.1.attn."
    original.load_state_dict(
        {
            key.removeprefix(prefix): value
            for key, value in tiny_tensors.items()
            if key.startswith(prefix)
        }
    )
    tokens = torch.randn(2, 7, width, generator=torch.Generator().manual_seed(1))

    with torch.inference_mode():
        wanted, _ = original(tokens, tokens, tokens, need_weights=False)
        found = attention(tokens)[0]
        pooled = tokens[:, 0]
        projected = encoder.visual_projection(pooled)

    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.allclose(projected, pooled @ tiny_tensors[f"{CLIP}proj"], atol=1e-6)


def test_a_file_that_is_cut_short_after_it_was_checked_is_broken(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.engine import loading
    from svd_local.errors import CheckpointBroken

    path = tmp_path / "svd.safetensors"
    path.write_bytes(tiny_file.read_bytes())
    checkpoint = resolve("svd", tmp_path)

    def checked(_: Any) -> None:
        path.write_bytes(path.read_bytes()[:-1000])

    monkeypatch.setattr(loading, "require_whole", checked)

    with pytest.raises(CheckpointBroken, match=r"could not be loaded"):
        load(checkpoint, "cpu", FP32)
