"""The engine with kernels is the engine: what they are given and what is left to them, and their memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from svd_local.engine.fused.kernels.choice import ALL, KERNELS, NONE, Kernels, using
from svd_local.engine.fused.passes import Passes
from svd_local.engine.fused.unet import FusedUNet


@pytest.mark.parametrize(
    ("kernels", "limit"),
    [(ALL, None), (ALL, 900), (Kernels(every=frozenset({"geglu", "add-layer-norm"})), None)],
)
def test_a_step_with_kernels_is_as_near_to_the_truth(
    unet_case: Callable[..., Any],
    distance: Callable[..., float],
    stood_in: list[str],
    kernels: Kernels,
    limit: int | None,
) -> None:
    case = unet_case(3, smallest=2, levels=2, frames=3)
    exact = case.reference()
    given = [case.sample.half(), case.timestep.half(), case.context.half(), case.time_ids.half()]
    unet = FusedUNet.from_reference(case.unet, torch.float16)
    if limit is not None:
        unet = dataclasses.replace(unet, passes=Passes(limit))
    with torch.inference_mode():
        plain = unet.forward(*given)
        with using(kernels):
            ours = unet.forward(*given)
    assert distance(ours, exact) < 1.2 * distance(plain, exact)
    ran = {"geglu", "add_layer_norm_"}
    if kernels is ALL:
        ran = {"normalise", "geglu_product", "temporal_attention", "add_layer_norm_"}
        ran |= {"added"} if limit is None else {"channel_moments", "scaled"}
    assert set(stood_in) >= ran


@pytest.mark.parametrize(
    "kernels",
    [
        ALL,
        *(
            pytest.param(one, marks=pytest.mark.long)
            for one in (NONE, *(Kernels(every=frozenset({name})) for name in KERNELS))
        ),
    ],
)
def test_a_plan_counts_what_kernels_save(kernels: Kernels) -> None:
    from svd_local.engine.architecture import tiny
    from svd_local.engine.blueprint import unet_shape
    from svd_local.engine.fused.counting import (
        count_flops,
        fake_cuda,
        fake_parameters,
        peak_bytes,
    )
    from svd_local.engine.fused_memory import step_bytes

    frames, height, width = 6, 9, 11
    with torch.device("meta"):
        from diffusers import UNetSpatioTemporalConditionModel

        model = UNetSpatioTemporalConditionModel(**tiny().unet).eval()

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.float16, device="cuda")

    with fake_cuda(), using(kernels):
        fake_parameters(model, torch.float16)
        unet = FusedUNet.from_reference(model)
        clip = unet.prepare(
            image_latents=empty(2, 4, height, width),
            image_embeddings=empty(2, 1, 64),
            added_time_ids=empty(1, 3),
            timesteps=torch.empty(1, device="cuda"),
            num_frames=frames,
            guidance=empty(frames),
        )
        latents = empty(1, frames, 4, height, width)
        taken = peak_bytes(lambda: unet.step(latents, clip, 0))
        work = count_flops(lambda: unet.step(latents, clip, 0))
        with using(NONE):
            assert work == count_flops(lambda: unet.step(latents, clip, 0))
    predicted = _step_bytes(step_bytes, unet_shape(tiny().unet), frames, height, width, kernels)
    assert predicted == pytest.approx(taken, rel=0.1)
    if kernels is ALL:
        plain = _step_bytes(step_bytes, unet_shape(tiny().unet), frames, height, width, NONE)
        assert predicted < 0.8 * plain


def _step_bytes(
    step_bytes: Any, shape: Any, frames: int, height: int, width: int, kernels: Kernels
) -> int:
    from types import SimpleNamespace

    from helpers.samplings import FULL_SIZE

    sampling = dataclasses.replace(FULL_SIZE, frames=frames, width=8 * width, height=8 * height)
    found: int = step_bytes(
        SimpleNamespace(unet=shape),
        sampling,
        itemsize=2,
        on_gpu=True,
        halves=False,
        limit=None,
        host_skips=False,
        kernels=kernels,
    )
    return found


@pytest.mark.usefixtures("stood_in")
def test_a_compiler_takes_the_engine_with_its_kernels() -> None:
    from svd_local.engine.fused import ops
    from svd_local.engine.fused.weights import Affine, Norm

    x, y = torch.randn(2, 1, 6, 32).half(), torch.randn(2, 1, 6, 32).half()
    proj = Affine(torch.randn(256, 32).half(), torch.randn(256).half())
    norm = Norm(torch.ones(32).half(), torch.zeros(32).half(), 1e-5)

    def work(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        out = Affine(proj.weight[:32], None)
        made = ops.add_projected_and_norm_(x, y, out, proj.bias[None, :32], norm)  # type: ignore[index]
        return ops.geglu(made, proj) + x.repeat(1, 1, 1, 4)

    compiled = torch.compile(work, backend="aot_eager", fullgraph=True, dynamic=False)
    with torch.inference_mode(), using(ALL):
        assert torch.allclose(compiled(x, y), work(x, y), atol=1e-2, rtol=1e-2)


def test_the_shapes_of_a_clip_name_every_kernel() -> None:
    from benchmarks.shapes import Ours, shapes_of
    from svd_local.engine.architecture import tiny

    shapes = shapes_of(tiny(), 3, 128, 64, ALL)
    names = {one.name for one in shapes["step"] if isinstance(one, Ours)}
    assert names == {"group_norm", "geglu_product", "temporal_attention", "add_layer_norm_"}
    assert {one.name for one in shapes["decode"] if isinstance(one, Ours)} == {"group_norm"}
    assert not any(isinstance(one, Ours) for one in shapes_of(tiny(), 3, 128, 64)["step"])
