"""The fused engine's memory plans: predictions against what living tensors come to."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.samplings import FULL_SIZE as CLIP

from svd_local.engine.architecture import Architecture, build, full_size, tiny
from svd_local.engine.blueprint import Blueprint, unet_shape, vae_shape
from svd_local.engine.folded_sizes import folded_sizes
from svd_local.engine.fused import fp8
from svd_local.engine.fused.counting import fake_cuda, fake_parameters, peak_bytes
from svd_local.engine.fused.deep_cache import DeepCache
from svd_local.engine.fused.passes import WHOLE, Passes
from svd_local.engine.fused.picture import encode_picture
from svd_local.engine.fused.skips import HostSkips, ResidentSkips
from svd_local.engine.fused.supply import Streamed
from svd_local.engine.fused.unet import ClipConstants, FusedUNet
from svd_local.engine.fused.weights import tensors
from svd_local.engine.fused_memory import step_bytes
from svd_local.engine.fused_plan import FusedWay, fused_ladder, fused_ways
from svd_local.engine.fused_runner import FusedRunner
from svd_local.engine.memory import GPU_OVERHEAD
from svd_local.engine.sizes import of_architecture
from svd_local.engine.values import Caching, Sampling
from svd_local.errors import InvalidRequest, OutOfMemory

GIB = 2**30
SMALLEST = "weights streamed + pieces, skips in host memory + streaming decode from host memory"
SMALL = dataclasses.replace(CLIP, frames=5, width=128, height=64)


def blueprint(architecture: Architecture) -> Blueprint:
    sizes = of_architecture(architecture)
    return Blueprint(sizes, unet_shape(architecture.unet), vae_shape(architecture.vae))


def ways(architecture: Architecture, sampling: Sampling) -> tuple[FusedWay, ...]:
    return fused_ways(blueprint(architecture), sampling, itemsize=2, on_gpu=True)


def ladder(sampling: Sampling = CLIP, **limits: Any) -> tuple[FusedWay, ...]:
    given: dict[str, Any] = {"free": None, "total": None, "budget": None, **limits}
    return fused_ladder(blueprint(full_size(25)), sampling, itemsize=2, on_gpu=True, **given)


def fake_runner(architecture: Architecture) -> FusedRunner:
    """Fake fp16 weights in host memory, to be moved to a fake GPU."""
    with torch._subclasses.fake_tensor.unset_fake_temporarily(), torch.device("meta"):
        pipeline = build(architecture)
    for name in ("unet", "vae", "image_encoder"):
        for module in getattr(pipeline, name).modules():
            for key, weight in module._parameters.items():
                if weight is not None:
                    fake = torch.empty(weight.shape, dtype=torch.float16)
                    module._parameters[key] = torch.nn.Parameter(fake, requires_grad=False)
            for key, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[key] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return FusedRunner(pipeline, "cuda:0")


def prepared(unet: FusedUNet, sampling: Sampling, batch: int) -> tuple[ClipConstants, torch.Tensor]:
    """A clip's constants and latents."""
    height, width, frames = sampling.height // 8, sampling.width // 8, sampling.frames
    context = unet.conditioning.transformers[0].contexts[0][0].value.weight.shape[1]

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.float16, device="cuda")

    constants = unet.prepare(
        image_latents=empty(batch, 4, height, width),
        image_embeddings=empty(batch, 1, context),
        added_time_ids=empty(1, 3),
        timesteps=torch.empty(sampling.steps, device="cuda"),
        num_frames=frames,
        guidance=empty(frames) if batch == 2 else None,
    )
    return constants, empty(1, frames, 4, height, width)


def stepped(unet: FusedUNet, sampling: Sampling, batch: int) -> torch.Tensor:
    """A step; with caching one that runs as a whole, and the next, which reuses what may be reused."""
    constants, latents = prepared(unet, sampling, batch)
    if sampling.caching is None:
        return unet.step(latents, constants, 0)
    deep = DeepCache(sampling.caching)
    unet.step(latents, constants, 0, deep)
    return unet.step(latents, constants, 1, deep)


def phases(runner: FusedRunner, way: FusedWay, sampling: Sampling) -> Callable[[], None]:
    """What `render` does with the networks, step by step; values are not looked at."""

    def work() -> None:
        runner.prepare(way)
        runner.encode_with(way, "image encoder")
        runner.pipeline.image_encoder(
            torch.empty(1, 3, 224, 224, dtype=torch.float16, device="cuda")
        )
        runner.encode_with(way, "VAE encoder")
        vae = runner.pipeline.vae
        if way.weights == "resident":
            for part in (vae.encoder, vae.quant_conv):
                fake_parameters(part, torch.float32)
        encode_picture(vae, torch.empty(1, 3, sampling.height, sampling.width, device="cuda"))
        if way.weights == "resident":
            for part in (vae.encoder, vae.quant_conv):
                fake_parameters(part, torch.float16)
        latents = stepped(runner.unet(way), sampling, 2)
        for frame in runner.decoder(way).pixels(latents[0]):
            frame.to("cpu")

    return work


def of(architecture: Architecture, sampling: Sampling, plan: str) -> FusedWay:
    [way] = [way for way in ways(architecture, sampling) if way.plan == plan]
    return way


def counted(architecture: Architecture, way: FusedWay, sampling: Sampling) -> int:
    with fake_cuda():
        return peak_bytes(phases(fake_runner(architecture), way, sampling))


@pytest.mark.parametrize(
    "plan",
    [
        "resident",
        "one network at a time + guidance halves + streaming decode from host memory",
        SMALLEST,
        *(
            pytest.param(plan, marks=pytest.mark.long)
            for plan in (
                "encoders offloaded + streaming decode",
                "one network at a time",
                "one network at a time + pieces + streaming decode",
                "one network at a time + pieces, skips in host memory"
                " + streaming decode from host memory",
                "weights streamed",
                "weights streamed + pieces of both halves + streaming decode from host memory",
            )
        ),
    ],
)
def test_a_plan_takes_what_was_predicted(plan: str) -> None:
    way = of(tiny(), SMALL, plan)

    assert way.peak_bytes == pytest.approx(counted(tiny(), way, SMALL), rel=0.03)


@pytest.mark.parametrize(
    "plan",
    [
        "one network at a time + guidance halves",
        pytest.param("weights streamed + pieces of both halves", marks=pytest.mark.long),
        pytest.param("weights streamed + pieces, skips in host memory", marks=pytest.mark.long),
    ],
)
def test_so_it_does_where_features_are_cached(plan: str) -> None:
    sampling = dataclasses.replace(SMALL, caching=Caching(interval=2, depth=1))
    way = of(tiny(), sampling, f"{plan} + streaming decode")

    assert way.peak_bytes == pytest.approx(counted(tiny(), way, sampling), rel=0.03)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param("resident", marks=pytest.mark.long),
        "one network at a time + guidance halves + streaming decode",
        pytest.param(
            "weights streamed + pieces of both halves + streaming decode from host memory",
            marks=pytest.mark.long,
        ),
    ],
)
def test_so_it_does_in_eight_bits(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp8, "LEAST_INPUTS", 64)
    sampling = dataclasses.replace(SMALL, fp8=True)
    way = of(tiny(), sampling, plan)

    assert way.peak_bytes == pytest.approx(counted(tiny(), way, sampling), rel=0.03)
    assert way.fp8


@pytest.mark.parametrize(
    "plan", ["resident", pytest.param("one network at a time", marks=pytest.mark.long)]
)
def test_so_it_does_at_full_size(plan: str) -> None:
    way = of(full_size(25), CLIP, plan)

    assert way.peak_bytes == pytest.approx(counted(full_size(25), way, CLIP), rel=0.03)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "plan",
    [
        "resident + guidance halves + streaming decode",
        "one network at a time + pieces + streaming decode",
        "one network at a time + pieces, skips in host memory + streaming decode from host memory",
        "weights streamed + pieces of both halves + streaming decode from host memory",
        SMALLEST,
    ],
)
def test_so_does_every_smaller_plan_at_full_size(plan: str) -> None:
    way = of(full_size(25), CLIP, plan)

    assert way.peak_bytes == pytest.approx(counted(full_size(25), way, CLIP), rel=0.03)


@pytest.mark.parametrize(
    ("limit", "host_skips", "guidance"),
    [
        (None, False, (1.0, 3.0)),
        (2 * 9 * 11 * 32, True, (1.0, 3.0)),
        (2 * 9 * 11 * 32, False, (1.0, 1.0)),
        (None, True, (1.0, 1.0)),
        # Each pair of values once; all of them in the long run.
        pytest.param(None, True, (1.0, 3.0), marks=pytest.mark.long),
        pytest.param(2 * 9 * 11 * 32, False, (1.0, 3.0), marks=pytest.mark.long),
        pytest.param(2 * 9 * 11 * 32, True, (1.0, 1.0), marks=pytest.mark.long),
        pytest.param(None, False, (1.0, 1.0), marks=pytest.mark.long),
    ],
)
def test_a_step_takes_what_was_predicted(
    limit: int | None, host_skips: bool, guidance: tuple[float, float]
) -> None:
    """At an odd size, where halving and doubling do not meet."""
    sampling = dataclasses.replace(CLIP, frames=6, width=88, height=72, guidance=guidance)
    batch = 2 if sampling.guided else 1
    predicted = step_bytes(
        blueprint(tiny()),
        sampling,
        itemsize=2,
        on_gpu=True,
        halves=False,
        limit=limit,
        host_skips=host_skips,
    )

    with fake_cuda():
        runner = fake_runner(tiny())
        unet = dataclasses.replace(
            runner.unet(ways(tiny(), sampling)[0]),
            passes=WHOLE if limit is None else Passes(limit),
            skips=HostSkips if host_skips else ResidentSkips,
        )
        constants, latents = prepared(unet, sampling, batch)
        taken = peak_bytes(lambda: unet.step(latents, constants, 0))

    assert predicted == pytest.approx(taken, rel=0.1)


@pytest.mark.parametrize(
    ("depth", "limit", "halves", "host_skips"),
    [
        (1, None, False, False),
        pytest.param(1, None, True, False, marks=pytest.mark.long),
        (3, None, True, False),
        (11, None, False, False),
        pytest.param(1, 2 * 9 * 11 * 32, True, False, marks=pytest.mark.long),
        (1, 2 * 9 * 11 * 32, True, True),
    ],
)
def test_cached_features_are_counted(
    depth: int, limit: int | None, halves: bool, host_skips: bool
) -> None:
    exact = dataclasses.replace(CLIP, frames=6, width=88, height=72)
    sampling = dataclasses.replace(exact, caching=Caching(interval=2, depth=depth))

    def predicted(of: Sampling) -> int:
        return step_bytes(
            blueprint(tiny()),
            of,
            itemsize=2,
            on_gpu=True,
            halves=halves,
            limit=limit,
            host_skips=host_skips,
        )

    with fake_cuda():
        runner = fake_runner(tiny())
        unet = dataclasses.replace(
            runner.unet(ways(tiny(), sampling)[0]),
            passes=WHOLE if limit is None else Passes(limit),
            one_by_one=halves,
            skips=HostSkips if host_skips else ResidentSkips,
        )
        constants, latents = prepared(unet, sampling, 2)
        deep = DeepCache(Caching(interval=2, depth=depth))

        def steps() -> None:
            for step in (0, 1, 2):
                unet.step(latents, constants, step, deep)

        taken = peak_bytes(steps)

    assert predicted(sampling) == pytest.approx(taken, rel=0.05)
    if host_skips:
        assert predicted(sampling) == predicted(exact)
    elif halves:
        assert predicted(sampling) > predicted(exact)


@pytest.mark.parametrize("architecture", [tiny(), full_size(25)], ids=["tiny", "full"])
def test_the_folded_networks_weigh_what_was_predicted(architecture: Architecture) -> None:
    sizes = folded_sizes(blueprint(architecture), 2)

    with fake_cuda():
        runner = fake_runner(architecture)
        way = ways(architecture, SMALL)[0]
        unet, decoder = runner.unet(way), runner.decoder(way)
        encoder = runner.pipeline.vae.encoder

        def weight(tree: Any) -> int:
            return sum(tensor.nbytes for tensor in tree)

        assert sizes.unet == pytest.approx(weight(tensors(unet.weights)), rel=1e-3)
        assert sizes.conditioning == pytest.approx(weight(tensors(unet.conditioning)), rel=0.02)
        assert sizes.decoder == pytest.approx(weight(tensors(decoder.weights)), rel=0.01)
        assert sizes.encoder == pytest.approx(weight(encoder.parameters()), rel=0.02)
        layer = runner.pipeline.image_encoder.vision_model.encoder.layers[0]
        assert sizes.image_encoder_layer == pytest.approx(weight(layer.parameters()), rel=0.03)

        streamed = runner._folded.unet.streamed("cuda:0")
        assert isinstance(streamed.supply, Streamed)
        ends = (streamed.weights.conv_in, streamed.weights.norm_out, streamed.weights.conv_out)
        held = streamed.supply.held_bytes + weight(tensors(ends))
        assert 2 * sizes.unet_largest + sizes.unet_ends == pytest.approx(held, rel=0.02)


def test_without_limits_everything_is_resident_and_at_once() -> None:
    steps = ladder()

    assert steps[0].plan == "resident"
    assert all(a.peak_bytes > b.peak_bytes for a, b in itertools.pairwise(steps))
    assert steps[-1].plan == SMALLEST
    assert steps[-1].peak_bytes < 1.6 * GIB - GPU_OVERHEAD


@pytest.mark.parametrize(
    ("budget", "plan"),
    [
        (40, "resident"),
        (12, "resident + streaming decode"),
        (8, "encoders offloaded + guidance halves + streaming decode"),
        (6, "one network at a time + guidance halves + streaming decode"),
        (4, "one network at a time + pieces + streaming decode from host memory"),
        (3, "weights streamed + pieces of both halves + streaming decode from host memory"),
        (2, "weights streamed + pieces + streaming decode from host memory"),
        (1.6, "weights streamed + pieces + streaming decode from host memory"),
        (1.5, SMALLEST),
    ],
)
def test_a_budget_leads_to_the_fastest_plan_within_it(budget: float, plan: str) -> None:
    [chosen, *_] = ladder(budget=int(budget * GIB))

    assert chosen.plan == plan
    assert chosen.peak_bytes + GPU_OVERHEAD <= budget * GIB


def test_free_memory_binds_as_a_budget_does() -> None:
    assert ladder(free=12 * GIB, total=80 * GIB) == ladder(budget=12 * GIB)
    assert len(ladder(free=GIB, total=80 * GIB)) == 1  # what others hold may be given back


def test_too_small_a_budget_names_the_least_that_would_do() -> None:
    with pytest.raises(InvalidRequest, match="100MiB is too little for 25 frames") as refused:
        ladder(budget=100 * 2**20)

    assert refused.value.field == "vram_budget"
    named = re.search(r"at least (\d+)MiB", refused.value.hint)
    assert named is not None
    least = int(named[1]) * 2**20
    assert ladder(budget=least)[0].peak_bytes + GPU_OVERHEAD <= least
    with pytest.raises(InvalidRequest):
        ladder(budget=least - 2**20)


def test_a_gpu_that_is_too_small_as_a_whole_is_refused() -> None:
    with pytest.raises(OutOfMemory, match="this GPU has 1024MiB") as refused:
        ladder(free=GIB, total=GIB)

    assert "--allow-approximate" not in refused.value.hint


def test_the_cpu_has_nowhere_to_offload_to() -> None:
    plans = fused_ways(blueprint(tiny()), SMALL, itemsize=4, on_gpu=False)

    assert {way.weights for way in plans} == {"resident"}
    assert not any(way.host_skips or way.host_maps for way in plans)


def test_without_guidance_there_are_no_halves() -> None:
    unguided = dataclasses.replace(SMALL, guidance=(1.0, 1.0))

    assert not any("halves" in way.step for way in ways(tiny(), unguided))


def test_the_least_that_hints_name_without_knowing_the_clip_is_the_smallest_plans() -> None:
    from svd_local.request.sizes import LEAST_BUDGET

    assert LEAST_BUDGET - 64 * 2**20 < ladder()[-1].peak_bytes + GPU_OVERHEAD <= LEAST_BUDGET


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_plan_there_is_takes_what_was_predicted() -> None:
    """Within a tenth, on a clip so small that what is not followed weighs most."""
    clip = dataclasses.replace(SMALL, frames=3, width=64)
    for way in ways(tiny(), clip):
        assert way.peak_bytes == pytest.approx(counted(tiny(), way, clip), rel=0.1), way.plan


def test_streaming_weights_comes_after_everything_that_does_not() -> None:
    """Both halves of guidance in pieces at once only pay where each weight has to be brought."""
    order = [way.weights for way in ways(full_size(25), CLIP)]
    first = order.index("weights streamed")

    assert set(order[first:]) == {"weights streamed"}
    both = [way for way in ways(full_size(25), CLIP) if way.step == "pieces of both halves"]
    assert {way.weights for way in both} == {"weights streamed"}
    assert not any(way.one_by_one for way in both)
