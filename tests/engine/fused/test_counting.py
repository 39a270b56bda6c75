"""Work and memory of the full-size networks, counted on a GPU that is not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from svd_local.engine.architecture import full_size
from svd_local.engine.fused.counting import count_flops, fake_cuda, fake_parameters, peak_bytes
from svd_local.engine.fused.decoder import FusedDecoder
from svd_local.engine.fused.passes import Passes
from svd_local.engine.fused.skips import HostSkips
from svd_local.engine.fused.streaming import Streaming
from svd_local.engine.fused.unet import FusedUNet
from svd_local.engine.fused.weights import tensors

FRAMES = 25
GIB = 2**30


@pytest.fixture(autouse=True)
def fake() -> Iterator[None]:
    with fake_cuda():
        yield


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float16, device="cuda")


def full_size_unet() -> Any:
    from diffusers import UNetSpatioTemporalConditionModel

    with torch._subclasses.fake_tensor.unset_fake_temporarily(), torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(**full_size(FRAMES).unet).eval()
    fake_parameters(unet, torch.float16)
    return unet


def full_size_decoder() -> Any:
    from diffusers import AutoencoderKLTemporalDecoder

    with torch._subclasses.fake_tensor.unset_fake_temporarily(), torch.device("meta"):
        vae = AutoencoderKLTemporalDecoder(**full_size(FRAMES).vae).eval()
    fake_parameters(vae, torch.float16)
    return vae


def prepared(unet: FusedUNet, *, guided: bool) -> tuple[Any, Any]:
    """A clip's constants and latents at 1024x576."""
    batch = 2 if guided else 1
    clip = unet.prepare(
        image_latents=empty(batch, 4, 72, 128),
        image_embeddings=empty(batch, 1, 1024),
        added_time_ids=empty(1, 3),
        timesteps=torch.empty(1, device="cuda"),
        num_frames=FRAMES,
        guidance=empty(FRAMES) if guided else None,
    )
    return clip, empty(1, FRAMES, 4, 72, 128)


def test_a_full_size_step_takes_less_work_and_memory() -> None:
    reference = full_size_unet()
    arguments = (
        empty(2, FRAMES, 8, 72, 128),
        torch.empty(1, device="cuda"),
        empty(2, 1, 1024),
        empty(2, 3),
    )
    work = count_flops(lambda: reference(*arguments))
    assert work == pytest.approx(159.9e12, rel=0.01)
    fused = FusedUNet.from_reference(reference)
    clip, latents = prepared(fused, guided=True)
    assert count_flops(lambda: fused.step(latents, clip, 0)) <= 0.94 * work
    at_once = peak_bytes(lambda: fused.step(latents, clip, 0))
    theirs = peak_bytes(lambda: reference(*arguments))
    assert theirs == pytest.approx(7.73 * GIB, rel=0.02)
    assert at_once < theirs
    halves = dataclasses.replace(fused, one_by_one=True)
    assert peak_bytes(lambda: halves.step(latents, clip, 0)) < 0.55 * at_once
    resident = sum(weight.nbytes for weight in tensors(fused.weights))
    assert resident < 0.88 * sum(weight.nbytes for weight in reference.parameters())


@pytest.mark.long
@pytest.mark.parametrize("guided", [False, True])
def test_a_full_size_step_in_pieces_fits_a_gibibyte(guided: bool) -> None:
    """One half of the guidance; the other runs after it in the same memory."""
    fused = FusedUNet.from_reference(full_size_unet())
    clip, latents = prepared(fused, guided=guided)
    pieces = dataclasses.replace(fused, passes=Passes(8_000_000), one_by_one=True)
    resident = peak_bytes(lambda: pieces.step(latents, clip, 0))
    assert resident <= 1.1 * GIB
    away = dataclasses.replace(pieces, skips=HostSkips)
    assert peak_bytes(lambda: away.step(latents, clip, 0)) <= 0.75 * resident


def test_a_full_size_decode_takes_less_work_and_memory() -> None:
    vae = full_size_decoder()
    latents = empty(FRAMES, 4, 72, 128)
    decoder = FusedDecoder.from_reference(vae)
    work = count_flops(lambda: vae.decode(latents, num_frames=FRAMES))
    assert work == pytest.approx(174e12, rel=0.01)
    assert count_flops(lambda: decoder.decode(latents)) <= 0.90 * work
    theirs = peak_bytes(lambda: vae.decode(latents, num_frames=FRAMES))
    assert theirs == pytest.approx(28.1 * GIB, rel=0.02)
    assert peak_bytes(lambda: list(decoder.pixels(latents))) < 0.85 * theirs


@pytest.mark.long
@pytest.mark.parametrize(("host", "most"), [(False, 5.0), (True, 1.0)])
def test_a_full_size_streaming_decode_fits(host: bool, most: float) -> None:
    decoder = FusedDecoder.from_reference(full_size_decoder())
    decoder = dataclasses.replace(decoder, streaming=Streaming(host=host))
    latents = empty(FRAMES, 4, 72, 128)
    assert peak_bytes(lambda: list(decoder.pixels(latents))) <= most * GIB


def test_living_bytes_are_followed_to_their_end() -> None:
    before = empty(1000)

    def work() -> None:
        first = before + 1  # 2000 bytes
        second = first.view(10, 100) * 2  # 2000 more, of a view
        del first
        third = second.new_empty(5, 100)  # 1000 in place of the first
        third.add_(1)
        second.to("cpu")

    assert peak_bytes(work) == 4000
    assert peak_bytes(work, device="cpu") == 2000


def test_indexing_is_the_usual_one() -> None:
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    from svd_local.engine.fused.counting import _indexed

    with unset_fake_temporarily():
        x = torch.arange(120).view(2, 3, 4, 5)
        for index in (
            0,
            (slice(None), 1),
            (None, ..., slice(1, 4, 2)),
            (..., 0),
            (1, ..., None),
            (slice(-2, None), None, 2, ..., slice(None), None),
            ...,
        ):
            assert torch.equal(_indexed(x, index), x[index])
