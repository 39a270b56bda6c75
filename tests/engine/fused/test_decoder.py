"""The fused decoder equals the reference, whole and streamed, for every frame count."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from svd_local.engine.fused.decoder import FusedDecoder
from svd_local.engine.fused.streaming import Streaming
from svd_local.engine.fused.unknown import UnknownPart

STREAMS = [Streaming(), Streaming(host=True), Streaming(positions=1), Streaming(positions=10**6)]


def decoded(case: Any, streaming: Streaming | None = None) -> torch.Tensor:
    with torch.inference_mode():
        decoder = FusedDecoder.from_reference(case.vae)
        decoder = dataclasses.replace(decoder, streaming=streaming)
        return decoder.decode(case.latents, case.frames)


def in_precision(case: Any, dtype: torch.dtype) -> Any:
    return type(case)(copy.deepcopy(case.vae).to(dtype), case.latents.to(dtype), case.frames)


@pytest.mark.parametrize("seed", range(16))
def test_equals_the_reference_in_double_precision(
    decoder_case: Any, distance: Any, seed: int
) -> None:
    case = decoder_case(seed)
    assert distance(decoded(case), case.reference()) <= 1e-12


@pytest.mark.parametrize("seed", range(100, 106))
def test_equals_the_reference_in_single_precision(
    decoder_case: Any, distance: Any, seed: int
) -> None:
    case = in_precision(decoder_case(seed), torch.float32)
    assert distance(decoded(case), case.reference()) <= 5e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", [200, 201, 202])
def test_half_precision_is_no_further_from_the_truth_than_the_reference(
    decoder_case: Any, distance: Any, seed: int, dtype: torch.dtype
) -> None:
    case = in_precision(decoder_case(seed, levels=2, frames=4), dtype)
    truth = in_precision(case, torch.float64).reference()
    error = distance(case.reference(), truth)
    assert distance(decoded(case), truth) <= 1.05 * error
    assert distance(decoded(case, Streaming()), truth) <= 1.05 * error


@pytest.mark.parametrize("frames", range(1, 26))
def test_streaming_equals_the_reference_for_every_frame_count(
    decoder_case: Any, distance: Any, frames: int
) -> None:
    case = decoder_case(frames, frames=frames, levels=2)
    streamed = decoded(case, STREAMS[frames % len(STREAMS)])
    assert distance(streamed, case.reference()) <= 1e-11


@pytest.mark.parametrize("streaming", STREAMS)
@pytest.mark.parametrize("seed", [300, 301, 302])
def test_streaming_in_single_precision(
    decoder_case: Any, distance: Any, seed: int, streaming: Streaming
) -> None:
    case = in_precision(decoder_case(seed), torch.float32)
    assert distance(decoded(case, streaming), case.reference()) <= 1e-5


@pytest.mark.parametrize("streaming", [None, Streaming()])
def test_several_clips_do_not_see_each_other(
    decoder_case: Any, distance: Any, streaming: Streaming | None
) -> None:
    case = decoder_case(5, frames=6)
    pair = type(case)(case.vae, case.latents, 3)
    assert distance(decoded(pair, streaming), pair.reference()) <= 1e-11


def test_frames_that_make_no_whole_clips_are_refused(decoder_case: Any) -> None:
    case = decoder_case(5, frames=6)
    with pytest.raises(ValueError, match="6 frames"):
        FusedDecoder.from_reference(case.vae).decode(case.latents, 4)


@pytest.mark.parametrize("streaming", [None, Streaming()])
def test_pixels_are_the_pipelines_own(decoder_case: Any, streaming: Streaming | None) -> None:
    """The pipeline scales latents, decodes, and its processor makes bytes of the result."""
    from diffusers.video_processor import VideoProcessor

    case = in_precision(decoder_case(9, frames=5, levels=2), torch.float32)
    scale = case.vae.config.scaling_factor
    scaled = type(case)(case.vae, case.latents * (1 / scale), 5)
    wanted = VideoProcessor().postprocess_video(
        scaled.reference()[None].permute(0, 2, 1, 3, 4).float(), output_type="np"
    )[0]
    wanted = torch.from_numpy((wanted * 255).round().astype("uint8"))
    decoder = dataclasses.replace(FusedDecoder.from_reference(case.vae), streaming=streaming)
    with torch.inference_mode():
        found = torch.stack(list(decoder.pixels(case.latents)))
    assert found.shape == wanted.shape
    assert found.dtype == torch.uint8
    gap = (found.int() - wanted.int()).abs()
    assert int(gap.max()) <= 1
    assert float((gap == 0).float().mean()) > 0.999


def test_a_frame_waits_for_none_but_the_next(
    decoder_case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way out of later frames is not begun when the first is handed over."""
    from svd_local.engine.fused import decoder_parts

    begun = []
    convolution = decoder_parts.conv3x3

    def counted(*arguments: Any) -> Any:
        begun.append(1)
        return convolution(*arguments)

    monkeypatch.setattr(decoder_parts, "conv3x3", counted)
    case = decoder_case(9, frames=5, levels=2)
    with torch.inference_mode():
        frames = FusedDecoder.from_reference(case.vae).pixels(case.latents)
        next(frames)
        assert len(begun) == 2
        assert len(list(frames)) == 4


class TestRefused:
    def test_another_attention_processor(self, decoder_case: Any) -> None:
        from diffusers.models.attention_processor import SlicedAttnProcessor

        vae = decoder_case(8, layers=2).vae
        vae.decoder.mid_block.attentions[0].processor = SlicedAttnProcessor(1)
        with pytest.raises(UnknownPart, match=r"mid_block\.attentions\.0\.processor"):
            FusedDecoder.from_reference(vae)

    def test_another_decoder(self, decoder_case: Any) -> None:
        vae = decoder_case(1).vae
        vae.decoder = torch.nn.Identity()
        with pytest.raises(UnknownPart, match=r"vae\.decoder.*Identity"):
            FusedDecoder.from_reference(vae)

    def test_another_block(self, decoder_case: Any) -> None:
        vae = decoder_case(1).vae
        vae.decoder.up_blocks[0] = torch.nn.Identity()
        with pytest.raises(UnknownPart, match=r"up_blocks\.0"):
            FusedDecoder.from_reference(vae)
