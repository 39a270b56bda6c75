"""The fused UNet equals the reference, for every shape of model and in every precision."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from svd_local.engine.fused.passes import Passes
from svd_local.engine.fused.skips import HostSkips, ResidentSkips
from svd_local.engine.fused.unet import FusedUNet
from svd_local.engine.fused.unknown import UnknownPart
from svd_local.engine.fused.weights import tensors


def fused(case: Any) -> torch.Tensor:
    with torch.inference_mode():
        unet = FusedUNet.from_reference(case.unet)
        return unet.forward(case.sample, case.timestep, case.context, case.time_ids)


def in_precision(case: Any, dtype: torch.dtype) -> Any:
    """The case rounded to ``dtype``; the timestep stays, as in the pipeline."""
    rounded = copy.deepcopy(case.unet).to(dtype)
    return type(case)(
        rounded,
        case.sample.to(dtype),
        case.timestep.float(),
        case.context.to(dtype),
        case.time_ids.to(dtype),
    )


@pytest.mark.parametrize("seed", range(24))
def test_equals_the_reference_in_double_precision(unet_case: Any, distance: Any, seed: int) -> None:
    case = unet_case(seed)
    assert distance(fused(case), case.reference()) <= 1e-12


@pytest.mark.parametrize("seed", range(100, 110))
def test_equals_the_reference_in_single_precision(unet_case: Any, distance: Any, seed: int) -> None:
    case = in_precision(unet_case(seed, smallest=9), torch.float32)
    assert distance(fused(case), case.reference()) <= 5e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", range(200, 203))
def test_half_precision_is_no_further_from_the_truth_than_the_reference(
    unet_case: Any, distance: Any, seed: int, dtype: torch.dtype
) -> None:
    case = in_precision(unet_case(seed, smallest=9, levels=2, frames=4), dtype)
    truth = in_precision(case, torch.float64).reference()
    assert distance(fused(case), truth) <= 1.05 * distance(case.reference(), truth)


def test_any_timestep_the_reference_takes(unet_case: Any, distance: Any) -> None:
    case = unet_case(3)
    for timestep in (7, 0.25, torch.tensor([1.6378])):
        alike = type(case)(case.unet, case.sample, timestep, case.context, case.time_ids)
        assert distance(fused(alike), alike.reference()) <= 1e-12


def test_folding_to_another_precision(unet_case: Any, distance: Any) -> None:
    case = unet_case(8)
    unet = FusedUNet.from_reference(case.unet, dtype=torch.float32)
    assert unet.dtype == torch.float32
    with torch.inference_mode():
        found = unet.forward(case.sample.float(), case.timestep, case.context, case.time_ids)
    assert found.dtype == torch.float32
    assert distance(found, case.reference()) <= 5e-6


@pytest.mark.parametrize("seed", range(300, 303))
@pytest.mark.parametrize("elements", [1, 2_000, 20_000])
@pytest.mark.parametrize("skips", [ResidentSkips, HostSkips])
def test_work_in_pieces_changes_nothing(
    unet_case: Any, distance: Any, seed: int, elements: int, skips: Any
) -> None:
    case = unet_case(seed)
    unet = FusedUNet.from_reference(case.unet)
    pieces = dataclasses.replace(
        unet, passes=Passes(elements), one_by_one=bool(seed % 2), skips=skips
    )
    with torch.inference_mode():
        found = pieces.forward(case.sample, case.timestep, case.context, case.time_ids)
    assert distance(found, case.reference()) <= 1e-12


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize(("seed", "videos"), [(17, 1), (17, 2), (5, 1), (7, 1), (12, 2), (20, 1)])
def test_a_guided_step_mixes_the_halves(
    unet_case: Any, distance: Any, seed: int, videos: int, one_by_one: bool
) -> None:
    case = unet_case(seed, in_channels=8, out_channels=4)
    frames, (height, width) = 5, case.sample.shape[-2:]
    noise = torch.Generator().manual_seed(5)
    latents = torch.randn(videos, frames, 4, height, width, generator=noise).double()
    image = torch.randn(2 * videos, 4, height, width, generator=noise).double()
    context = torch.randn(2 * videos, 1, case.context.shape[-1], generator=noise).double()
    ids = torch.tensor([[6.0, 127.0, 0.02]]).double()
    steps, scales = torch.tensor([1.6, 0.4, -1.2]), torch.linspace(1, 3, frames).double()
    unet = FusedUNet.from_reference(case.unet)
    unet = dataclasses.replace(unet, one_by_one=one_by_one)
    with torch.inference_mode():
        clip = unet.prepare(
            image_latents=image,
            image_embeddings=context,
            added_time_ids=ids,
            timesteps=steps,
            num_frames=frames,
            guidance=scales,
        )
        repeated = image[:, None].expand(-1, frames, -1, -1, -1)
        sample = torch.cat([torch.cat([latents] * 2), repeated], dim=2)
        for step, timestep in enumerate(steps):
            plain, guided = case.unet(
                sample, timestep, context, ids.expand(2 * videos, 3)
            ).sample.chunk(2)
            wanted = plain + scales[None, :, None, None, None] * (guided - plain)
            assert distance(unet.step(latents, clip, step), wanted) <= 1e-12


def test_a_step_leaves_its_inputs_alone(unet_case: Any) -> None:
    case = unet_case(11)
    before = case.sample.clone()
    weights = [w.clone() for w in case.unet.parameters()]
    first, second = fused(case), fused(case)
    assert torch.equal(first, second)
    assert torch.equal(case.sample, before)
    assert all(torch.equal(a, b) for a, b in zip(weights, case.unet.parameters(), strict=True))


def test_what_is_needed_once_a_clip_leaves_the_resident_network(unet_case: Any) -> None:
    """Frame-place networks, time projections and cross-attention are no part of the network."""
    case = unet_case(0, block_out_channels=(64,) * 4, transformer_layers_per_block=1)
    resident = sum(w.numel() for w in tensors(FusedUNet.from_reference(case.unet).weights))
    once = ("attn2", "blocks.0.norm2", "time_pos_embed", "time_emb_proj", "embedding.")
    sizes = {name: weight.numel() for name, weight in case.unet.named_parameters()}
    needed = sum(size for name, size in sizes.items() if not any(part in name for part in once))
    quarters = sum(size * 16 // 9 for name, size in sizes.items() if "upsamplers" in name)
    assert resident <= needed + quarters < sum(sizes.values())


def test_a_copy_on_another_device_may_leave_its_conditioning_behind(unet_case: Any) -> None:
    unet = FusedUNet.from_reference(unet_case(1).unet)
    moved = unet.to("meta", conditioning=False)
    assert moved.device.type == "meta"
    assert moved.conditioning is unet.conditioning
    assert {w.device.type for w in tensors(unet.to("meta").conditioning)} == {"meta"}


def test_a_pass_takes_something() -> None:
    with pytest.raises(ValueError, match="not 0"):
        Passes(0)


def test_a_model_whose_offload_hooks_were_taken_off_is_plain_again(unet_case: Any) -> None:
    from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

    unet = unet_case(1).unet
    add_hook_to_module(unet.conv_in, ModelHook())
    with pytest.raises(UnknownPart, match="conv_in"):
        FusedUNet.from_reference(unet)
    remove_hook_from_module(unet.conv_in)
    FusedUNet.from_reference(unet)


def test_a_step_is_one_graph_to_the_compiler(unet_case: Any) -> None:
    case = unet_case(8)
    unet = FusedUNet.from_reference(case.unet)
    clip = unet.prepare(
        image_latents=case.sample[:, :, 4:],
        image_embeddings=case.context,
        added_time_ids=case.time_ids,
        timesteps=case.timestep[None],
        num_frames=case.sample.shape[1],
    )
    latents = case.sample[:, :, :4]
    compiled = torch.compile(lambda x: unet.step(x, clip, 0), backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(latents), unet.step(latents, clip, 0))


class TestRefused:
    def test_an_adapter(self, unet_case: Any) -> None:
        class LoraLinear(torch.nn.Linear):
            pass

        unet = unet_case(0, down_block_types=("CrossAttnDownBlockSpatioTemporal",) * 4).unet
        attention = unet.down_blocks[1].attentions[0].transformer_blocks[0].attn1
        attention.to_q = LoraLinear(8, 8)
        with pytest.raises(UnknownPart, match=r"down_blocks\.1\.attentions\.0.*attn1\.to_q.*Lora"):
            FusedUNet.from_reference(unet)

    def test_another_attention_processor(self, unet_case: Any) -> None:
        from diffusers.models.attention_processor import SlicedAttnProcessor

        unet = unet_case(0).unet
        unet.mid_block.attentions[0].transformer_blocks[0].attn1.processor = SlicedAttnProcessor(1)
        with pytest.raises(UnknownPart, match=r"unet\.mid_block.*processor.*SlicedAttn"):
            FusedUNet.from_reference(unet)

    def test_a_hook(self, unet_case: Any) -> None:
        unet = unet_case(1).unet
        unet.conv_out.register_forward_hook(lambda module, args, output: output + 1)
        with pytest.raises(UnknownPart, match="hooks"):
            FusedUNet.from_reference(unet)

    def test_another_forward(self, unet_case: Any) -> None:
        unet = unet_case(1).unet
        unet.mid_block.forward = lambda *args, **kwargs: None
        with pytest.raises(UnknownPart, match="mid_block"):
            FusedUNet.from_reference(unet)

    def test_another_block(self, unet_case: Any) -> None:
        unet = unet_case(1).unet
        unet.down_blocks[0] = torch.nn.Identity()
        with pytest.raises(UnknownPart) as refused:
            FusedUNet.from_reference(unet)
        assert refused.value.part == "unet.down_blocks.0"
        assert "reference" in refused.value.hint

    def test_another_activation(self, unet_case: Any) -> None:
        unet = unet_case(1).unet
        unet.mid_block.resnets[0].spatial_res_block.nonlinearity = torch.nn.GELU()
        with pytest.raises(UnknownPart, match="nonlinearity"):
            FusedUNet.from_reference(unet)

    def test_weights_that_are_elsewhere(self, unet_case: Any) -> None:
        with pytest.raises(UnknownPart, match="offloaded"):
            FusedUNet.from_reference(unet_case(1).unet.to("meta"))

    def test_weights_in_eight_bits(self, unet_case: Any) -> None:
        unet = unet_case(1).unet.to(torch.float8_e4m3fn)
        with pytest.raises(UnknownPart, match="float8"):
            FusedUNet.from_reference(unet)

    def test_dropout_in_training(self, unet_case: Any) -> None:
        unet = unet_case(1).unet.train()
        unet.mid_block.resnets[0].spatial_res_block.dropout.p = 0.1
        with pytest.raises(UnknownPart, match="dropout"):
            FusedUNet.from_reference(unet)
        FusedUNet.from_reference(unet.eval())

    def test_a_context_of_several_tokens(self, unet_case: Any) -> None:
        case = unet_case(1)
        several = case.context.repeat(1, 2, 1)
        with pytest.raises(UnknownPart, match="2 context tokens"):
            FusedUNet.from_reference(case.unet).forward(
                case.sample, case.timestep, several, case.time_ids
            )

    def test_latents_of_the_wrong_width(self, unet_case: Any) -> None:
        case = unet_case(3)
        unet = FusedUNet.from_reference(case.unet)
        clip = unet.prepare(
            image_latents=case.sample[:, :, 4:],
            image_embeddings=case.context,
            added_time_ids=case.time_ids,
            timesteps=case.timestep[None],
            num_frames=case.sample.shape[1],
        )
        with pytest.raises(ValueError, match="5 latent channels"):
            unet.step(case.sample[:, :, :5], clip, 0)

    def test_guidance_without_its_other_half(self, unet_case: Any) -> None:
        case = unet_case(3)
        assert len(case.sample) == 1
        with pytest.raises(ValueError, match="unconditional"):
            FusedUNet.from_reference(case.unet).prepare(
                image_latents=case.sample[:, :, 4:],
                image_embeddings=case.context,
                added_time_ids=case.time_ids,
                timesteps=case.timestep[None],
                num_frames=case.sample.shape[1],
                guidance=torch.linspace(1, 3, case.sample.shape[1]),
            )
