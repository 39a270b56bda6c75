from typing import Any

import pytest
import torch

from svd_local.engine import synthetic
from svd_local.engine.architecture import COMPONENTS, tiny
from svd_local.engine.random_weights import fill
from svd_local.engine.reference import render
from svd_local.engine.streams import whole
from svd_local.engine.values import Sampling


def test_the_same_seed_gives_the_same_weights_in_the_dtype_asked_for() -> None:
    one, two = (synthetic.make_of(tiny(), "cpu", torch.bfloat16) for _ in range(2))

    for name in COMPONENTS:
        for (key, a), b in zip(
            getattr(one, name).state_dict().items(),
            getattr(two, name).state_dict().values(),
            strict=True,
        ):
            assert a.device.type == "cpu", key
            assert torch.equal(a, b), key
            assert not a.is_floating_point() or a.dtype == torch.bfloat16, key


def test_half_precision_stays_finite_over_a_whole_clip(picture: Any, quick: Sampling) -> None:
    import dataclasses

    pipeline = synthetic.make_of(tiny(), "cpu", torch.float16)
    pipeline.set_progress_bar_config(disable=True)

    made = whole(render(pipeline, picture, dataclasses.replace(quick, steps=25)))

    assert made.frames.std() > 5


def test_an_unknown_buffer_is_not_left_with_whatever_memory_held() -> None:
    module = torch.nn.Module()
    module.register_buffer("table", torch.zeros(3))

    with pytest.raises(ValueError, match="table"):
        fill(module, torch.Generator())


@pytest.mark.cuda
def test_full_size_is_made_on_the_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")

    pipeline = synthetic.make(25, "cuda", torch.float16)

    assert pipeline.unet.dtype == torch.float16
    assert {p.device.type for p in pipeline.unet.parameters()} == {"cuda"}
    assert all(bool(torch.isfinite(p).all()) for p in pipeline.unet.parameters())
