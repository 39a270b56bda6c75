"""The shapes that are timed are the engine's own, and one that is refused costs no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchmarks.setting import Setting


def test_the_shapes_add_up_to_the_counted_work() -> None:
    import torch
    from diffusers import AutoencoderKLTemporalDecoder

    from benchmarks.shapes import shapes_of
    from svd_local.engine.architecture import tiny
    from svd_local.engine.fused.counting import count_flops, fake_cuda, fake_parameters
    from svd_local.engine.fused.decoder import FusedDecoder

    shapes = shapes_of(tiny(), 3, 128, 64)
    with torch.device("meta"):
        vae = AutoencoderKLTemporalDecoder(**tiny().vae).eval()
    with fake_cuda():
        fake_parameters(vae, torch.float16)
        decoder = FusedDecoder.from_reference(vae)
        latents = torch.empty(3, 4, 8, 16, dtype=torch.float16, device="cuda")
        counted = count_flops(lambda: decoder.decode(latents))
    assert sum(one.flops * count for one, count in shapes["decode"].items()) == counted


def test_a_measurement_has_limits_and_every_operation(setting: Setting) -> None:
    from benchmarks.ceilings import measure

    result = measure(setting, for_s=0.0)
    assert result["benchmark"] == "ceilings"
    assert result["ceilings"]["copy"]["gb_per_s"]["device"] > 0
    assert {one["kind"] for one in result["operations"]} == {"product", "convolution", "attention"}
    total = sum(one["count"] * one["ms"] for one in result["operations"] if one["part"] == "step")
    assert result["library_ms"]["step"] == pytest.approx(total, abs=0.01)


def test_a_refused_operation_is_told_and_passed_over(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import Counter

    from benchmarks import ceilings
    from benchmarks.shapes import Convolution, Product

    good = Product(8, 8, 8, bias=True)
    bad = Convolution(1, 4, 8, 8, 4, (3, 3), 1, (1, 1), bias=True)

    def refuse(*_: Any) -> Any:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(ceilings, "convolution", refuse)
    monkeypatch.setattr(ceilings, "shapes_of", lambda *_: {"step": Counter([good, bad])})
    convolved, multiplied = ceilings.measure(setting, 0.0)["operations"]
    assert (convolved["ms"], convolved["refused"]) == (None, "out of memory")
    assert multiplied["ms"] > 0


def test_attention_is_timed_on_tensors_laid_out_as_the_engine_lays_them(setting: Setting) -> None:
    from benchmarks.ceilings import attention_inputs
    from benchmarks.shapes import Attention

    shape = Attention(2, 3, 5, 8, strides=(5 * 72, 8, 72, 1))
    for tensor in attention_inputs(shape, setting):
        assert tensor.shape == (2, 3, 5, 8)
        assert tensor.stride() == shape.strides
        assert tensor.std() > 0.5
