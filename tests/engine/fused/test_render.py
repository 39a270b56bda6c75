"""A whole clip by the fused engine against the reference, on the tiny checkpoint."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from helpers.samplings import FULL_SIZE
from PIL import Image

from svd_local.engine import reference
from svd_local.engine.fused import render as render_module
from svd_local.engine.fused.denoise import denoise
from svd_local.engine.fused.passes import Passes
from svd_local.engine.fused.render import Fused, render
from svd_local.engine.fused.skips import HostSkips
from svd_local.engine.fused.streaming import Streaming
from svd_local.engine.streams import drained, whole
from svd_local.engine.values import UnusableFrames

SAMPLING = dataclasses.replace(FULL_SIZE, seed=7, frames=8, decode_chunk=8, width=128, height=72)


@pytest.fixture(scope="module")
def fused(tiny_pipeline: Any) -> Fused:
    return Fused.from_pipeline(tiny_pipeline)


@pytest.fixture
def image(picture: Image.Image) -> Image.Image:
    return picture.resize((SAMPLING.width, SAMPLING.height))


def same_within_a_grey_level(found: Any, wanted: Any) -> float:
    """Share of values at most one apart."""
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype == np.uint8
    return float((np.abs(found.astype(int) - wanted.astype(int)) <= 1).mean())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance": (1.0, 1.0), "steps": 5, "frames": 3},
        {"guidance": (1.5, 2.5), "steps": 10, "schedule": "align-your-steps", "seed": 3},
    ],
)
def test_a_clip_equals_the_references(
    tiny_pipeline: Any, fused: Fused, image: Image.Image, changes: dict[str, Any]
) -> None:
    sampling = dataclasses.replace(SAMPLING, **changes)
    sampling = dataclasses.replace(sampling, decode_chunk=sampling.frames)
    found = whole(render(tiny_pipeline, fused, image, sampling)).frames
    wanted = whole(reference.render(tiny_pipeline, image, sampling)).frames
    assert same_within_a_grey_level(found, wanted) >= 0.999
    assert np.ptp(found) > 50


def test_frames_that_are_handed_out_one_by_one_are_the_decoders_bit_for_bit(
    tiny_pipeline: Any, fused: Fused, image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = dataclasses.replace(SAMPLING, steps=2, frames=4)
    latents = []

    def watched(*arguments: Any, **options: Any) -> torch.Tensor:
        latents.append(denoise(*arguments, **options))
        return latents[-1]

    monkeypatch.setattr(render_module, "denoise", watched)
    chunks, _ = drained(render(tiny_pipeline, fused, image, sampling))
    with torch.inference_mode():
        wanted = torch.stack(list(fused.decoder.pixels(latents[0][0]))).numpy()

    assert [chunk.shape for chunk in chunks] == [(1, 72, 128, 3)] * 4
    assert np.array_equal(np.concatenate(chunks), wanted)


def test_a_clip_in_little_memory_is_the_same_clip(
    tiny_pipeline: Any, fused: Fused, image: Image.Image
) -> None:
    sampling = dataclasses.replace(SAMPLING, steps=6, frames=5)
    small = Fused(
        dataclasses.replace(fused.unet, passes=Passes(4_000), one_by_one=True, skips=HostSkips),
        dataclasses.replace(fused.decoder, streaming=Streaming(host=True)),
    )
    found = whole(render(tiny_pipeline, small, image, sampling)).frames
    wanted = whole(render(tiny_pipeline, fused, image, sampling)).frames
    assert same_within_a_grey_level(found, wanted) >= 0.999


def test_progress_is_told_and_the_phases_timed(
    tiny_pipeline: Any, fused: Fused, image: Image.Image
) -> None:
    sampling = dataclasses.replace(SAMPLING, steps=3, frames=2)
    told: list[tuple[str, int, int]] = []
    rendered = whole(
        render(tiny_pipeline, fused, image, sampling, report=lambda *event: told.append(event))
    )
    assert told == [
        ("encode-image", 0, 0),
        *(("denoise", step, 3) for step in range(4)),
        *(("decode", frame, 2) for frame in range(3)),
    ]
    assert min(rendered.encode_image_s, rendered.denoise_s, rendered.decode_s) > 0


@pytest.mark.parametrize("stage", ["encode-image", "denoise", "decode"])
def test_it_can_be_stopped_anywhere(
    tiny_pipeline: Any, fused: Fused, image: Image.Image, stage: str
) -> None:
    class StopIt(Exception):
        pass

    reached: list[str] = []

    def check() -> None:
        if stage in reached:
            raise StopIt

    sampling = dataclasses.replace(SAMPLING, steps=2, frames=2)
    with pytest.raises(StopIt):
        whole(
            render(
                tiny_pipeline,
                fused,
                image,
                sampling,
                report=lambda stage, done, total: reached.append(stage),
                check=check,
            )
        )
    assert reached[-1] == stage
    assert whole(render(tiny_pipeline, fused, image, sampling)).frames.shape == (2, 72, 128, 3)


def test_nan_is_found_before_it_becomes_bytes(
    tiny_pipeline: Any, fused: Fused, image: Image.Image
) -> None:
    sampling = dataclasses.replace(SAMPLING, steps=1, frames=2)
    norm = dataclasses.replace(
        fused.unet.weights.norm_out, weight=fused.unet.weights.norm_out.weight * torch.nan
    )
    unet = dataclasses.replace(
        fused.unet, weights=dataclasses.replace(fused.unet.weights, norm_out=norm)
    )
    with pytest.raises(UnusableFrames, match="denoiser"):
        whole(render(tiny_pipeline, dataclasses.replace(fused, unet=unet), image, sampling))
    conv = fused.decoder.weights.conv_out
    assert conv.bias is not None
    conv = dataclasses.replace(conv, bias=conv.bias * torch.nan)
    decoder = dataclasses.replace(
        fused.decoder, weights=dataclasses.replace(fused.decoder.weights, conv_out=conv)
    )
    with pytest.raises(UnusableFrames, match="decoder"):
        whole(render(tiny_pipeline, dataclasses.replace(fused, decoder=decoder), image, sampling))
