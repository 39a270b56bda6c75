"""Every weight of the full-size networks has its one place in the published files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.original_layout import originals

from svd_local.engine.architecture import COMPONENTS, build, full_size, tiny
from svd_local.engine.original.layout import is_unused, layout_of

PUBLISHED_KEYS = 2194
PUBLISHED_DIGEST = "c8814b942dcc89b25b2f2c9f0896304b1a74bdc75f676b25aa8eb0be1d60c0c6"
"""SHA-256 of the sorted names, a line each, of the weights that public converters know of the published
svd and svd_xt files (modelscope/DiffSynth-Studio, ``diffsynth/models/svd_*.py`` before 860f545).
"""
PUBLISHED_BYTES = 9.56e9
WITH_CONDITIONER = {"conditioner.embedders.3.encoder.encoder.conv_in.weight"}


@pytest.fixture(scope="module", params=["svd_xt", "tiny"])
def networks(request: pytest.FixtureRequest) -> tuple[Any, dict[str, dict[str, torch.Tensor]]]:
    """An architecture and the tensors of its networks, without memory."""
    architecture = full_size(25) if request.param == "svd_xt" else tiny()
    with torch.device("meta"):
        pipeline = build(architecture)
    return architecture, {name: getattr(pipeline, name).state_dict() for name in COMPONENTS}


def test_every_weight_of_every_network_is_listed_once(networks: Any) -> None:
    architecture, tensors = networks

    layout = layout_of(architecture, WITH_CONDITIONER)

    for name, weights in layout.items():
        listed = [weight.name for weight in weights]
        assert len(set(listed)) == len(listed)
        assert {weight.name: weight.shape for weight in weights} == {
            key: tuple(tensor.shape) for key, tensor in tensors[name].items()
        }


def test_places_and_their_shapes_are_those_of_the_way_back(networks: Any) -> None:
    architecture, tensors = networks
    wanted = {key: tuple(tensor.shape) for key, tensor in originals(tensors).items()}

    weights = [w for part in layout_of(architecture, WITH_CONDITIONER).values() for w in part]

    assert {weight.source: weight.source_shape for weight in weights} == wanted
    shared = [weight for weight in weights if weight.form in ("query", "key", "value")]
    assert len(weights) - len(wanted) == len(shared) * 2 // 3


def test_the_names_are_the_published_ones() -> None:
    layout = layout_of(full_size(25), WITH_CONDITIONER)
    names = sorted({weight.source for weights in layout.values() for weight in weights})

    assert len(names) == PUBLISHED_KEYS
    assert hashlib.sha256("\n".join(names).encode()).hexdigest() == PUBLISHED_DIGEST


def elements(shapes: Iterator[tuple[int, ...]]) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes)


def test_with_the_halves_that_are_not_needed_it_comes_to_the_published_size() -> None:
    """In fp32: the weights, the other VAE's decoder and CLIP's half for words (without its layers)."""
    layout = layout_of(full_size(25), WITH_CONDITIONER)
    needed = elements(weight.shape for weights in layout.values() for weight in weights)
    image_vae = 83_653_863  # of Stable Diffusion; the encoder and quant_conv counted above
    first_stage = elements(w.shape for w in layout["vae"] if w.name.startswith("encoder."))
    quant = elements(w.shape for w in layout["vae"] if w.name.startswith("quant_conv."))
    words = (49_408 + 77) * 1024 + 2 * 1024 + 1024 * 1024 + 1

    total = 4 * (needed + image_vae - quant + words)

    assert first_stage + quant < image_vae
    assert total == pytest.approx(PUBLISHED_BYTES, rel=1e-3)


@pytest.mark.parametrize(
    "key",
    [
        "conditioner.embedders.0.open_clip.model.token_embedding.weight",
        "conditioner.embedders.0.open_clip.model.ln_final.bias",
        "conditioner.embedders.3.encoder.decoder.up.0.block.0.conv1.weight",
        "conditioner.embedders.3.encoder.post_quant_conv.bias",
        "first_stage_model.encoder.conv_in.weight",
        "model_ema.diffusion_modelinput_blocks00weight",
        "denoiser.sigmas",
    ],
)
def test_what_the_original_program_saves_besides_is_known(key: str) -> None:
    assert is_unused(key)


@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.input_blocks.0.0.weight",
        "first_stage_model.decoder.conv_in.weight",
        "conditioner.embedders.0.open_clip.model.visual.proj",
        "conditioner.embedders.1.weight",
        "control_model.input_blocks.0.0.weight",
    ],
)
def test_anything_else_is_not(key: str) -> None:
    assert not is_unused(key)
