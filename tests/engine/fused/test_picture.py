"""The picture's encoding: diffusers' own numbers in less memory."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder

from svd_local.engine.fused.counting import peak_bytes
from svd_local.engine.fused.picture import encode_picture, encoder_type, know_encoder
from svd_local.engine.fused.unknown import UnknownPart


def vae(seed: int) -> Any:
    pick = random.Random(seed)
    levels = pick.choice([1, 2, 3])
    torch.manual_seed(seed)
    return AutoencoderKLTemporalDecoder(
        block_out_channels=tuple(pick.choice([32, 64]) for _ in range(levels)),
        down_block_types=("DownEncoderBlock2D",) * levels,
        layers_per_block=pick.choice([1, 2]),
        latent_channels=4,
    ).eval()


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_encoders_own_mode_bit_for_bit(seed: int) -> None:
    model = vae(seed)
    know_encoder(model)
    picture = torch.randn(1, 3, 24 + 4 * seed, 36)
    before = picture.clone()
    with torch.inference_mode():
        wanted = model.encode(picture).latent_dist.mode()
        found = encode_picture(model, picture)
    assert torch.equal(found, wanted)
    assert torch.equal(picture, before)


def test_it_holds_three_of_the_widest_maps() -> None:
    model = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        layers_per_block=2,
    ).eval()
    picture = torch.randn(1, 3, 64, 64)
    widest = 32 * 64 * 64 * 4
    with torch.inference_mode():
        assert peak_bytes(lambda: encode_picture(model, picture), "cpu") <= 3.01 * widest
        assert peak_bytes(lambda: model.encode(picture), "cpu") >= 5 * widest


def test_in_half_precision_the_encoder_is_widened_for_the_picture_only(tiny_pipeline: Any) -> None:
    """In fp16 the encoder runs in fp32, and has its own type again afterwards, also after an error."""

    class Broken(Exception):
        pass

    model = copy.deepcopy(tiny_pipeline.vae)
    model.half()
    decoder_weight = model.decoder.conv_in.weight
    seen = []

    def broken(*_: Any) -> None:
        seen.extend(weight.dtype for weight in model.encoder.parameters())
        assert model.decoder.conv_in.weight is decoder_weight
        assert decoder_weight.dtype == torch.float16
        raise Broken

    hook = model.encoder.mid_block.register_forward_pre_hook(broken)
    picture = torch.randn(1, 3, 64, 64)
    with torch.inference_mode(), pytest.raises(Broken):
        encode_picture(model, picture)
    hook.remove()
    assert set(seen) == {torch.float32}
    assert {weight.dtype for weight in model.parameters()} == {torch.float16}
    wide = copy.deepcopy(model).float()
    with torch.inference_mode():
        wanted = wide.encode(picture).latent_dist.mode()
        assert torch.equal(encode_picture(model, picture), wanted)


def test_half_precision_stays_where_the_configuration_allows_it() -> None:
    model = AutoencoderKLTemporalDecoder(
        block_out_channels=(32,), down_block_types=("DownEncoderBlock2D",), force_upcast=False
    )
    assert encoder_type(model.half()) == torch.float16
    assert encoder_type(model.bfloat16()) == torch.bfloat16


def test_an_encoder_of_another_kind_is_refused() -> None:
    model = vae(1)
    model.encoder.down_blocks[0].resnets[0].output_scale_factor = 2.0
    with pytest.raises(UnknownPart, match=r"vae\.encoder\.down_blocks\.0\.resnets\.0"):
        know_encoder(model)
    model = vae(1)
    model.encoder.down_blocks[0].register_forward_hook(lambda *_: None)
    with pytest.raises(UnknownPart, match="hooks"):
        know_encoder(model)
