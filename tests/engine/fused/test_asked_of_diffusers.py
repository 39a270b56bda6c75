"""What diffusers' own tests ask of the two networks and the pipeline, asked of the fused engine.

Sources: huggingface/diffusers 0.42, ``tests/models/unets/test_models_unet_spatiotemporal.py``,
``tests/models/autoencoders/test_models_autoencoder_kl_temporal_decoder.py``,
``tests/pipelines/stable_video_diffusion/test_stable_video_diffusion.py`` and the testers they are made of
(``tests/models/testing_utils``, ``tests/pipelines/test_pipelines_common.py``). The networks are of the same
odd sizes as there; weights are random. Here the UNet is asked, in ``test_asked_of_diffusers_pipeline`` the decoder
and the pipeline.

Asked here: output shapes and types; the same answer twice; heads and context widths as one number and one per
level; every form of a timestep; tuple and object outputs (the fused networks return the tensor that either
holds); saving and loading, as they are, in half precision, in shards and as a variant; both plain attention
processors, and projections fused and unfused; chunked feed-forwards and gradient checkpointing switched on; a
batch like its items; other frame counts and sizes; guidance off; seeds; a step's callback; offloading, twice
over; casts and hooks that change what a part does.

Without meaning here, and so not asked:

- training, mixed precision training, EMA: folding is for inference, and has no gradient. That it takes none
  and leaves the model as it was is asked;
- ``enable_slicing``, ``enable_tiling``, ``norm_num_groups``: this VAE implements none of them, and diffusers'
  own tests of them skip themselves;
- xformers, other attention backends, attention slicing, device maps over several GPUs, disk offload, caches
  that approximate (pyramid broadcast, first block, TaylorSeer, MagCache): other ways to run the reference,
  which the engine does not use. A model set up for one of them is refused by name and runs on the reference,
  as `test_unet` and `test_session_fused` ask;
- ``num_images_per_prompt``, ``encode_prompt``, pipeline signatures, ``components``, pushing to the hub,
  ``_keep_in_fp32_modules``, ``save_load_optional_components``: of the pipeline object, of which the engine
  uses what there is; the pipeline has no prompt and no optional component;
- a callback that replaces latents: ours only watches;
- the slow test of published weights, which cannot be had here.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.diffusers_models import a_unet

from svd_local.engine.fused.passes import Passes
from svd_local.engine.fused.skips import HostSkips
from svd_local.engine.fused.unet import FusedUNet
from svd_local.engine.fused.unknown import UnknownPart

CLOSE = 5e-6


def inputs(batch: int = 2, frames: int = 2, size: int = 8) -> dict[str, Any]:
    """As the dummy inputs there, smaller: a batch of two clips of two frames of 8x8 latents."""
    generator = torch.Generator().manual_seed(0)
    return {
        "sample": torch.randn(batch, frames, 4, size, size, generator=generator),
        "timestep": torch.tensor([10]),
        "encoder_hidden_states": torch.randn(batch, 1, 32, generator=generator),
        "added_time_ids": torch.tensor([[6, 127, 0.02]]).repeat(batch, 1),
    }


def answer(unet: Any, given: dict[str, Any] | None = None) -> torch.Tensor:
    """The fused network's, folded anew."""
    with torch.inference_mode():
        return FusedUNet.from_reference(unet).forward(**(given or inputs()))


def wanted(unet: Any, given: dict[str, Any] | None = None) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = unet(**(given or inputs())).sample
        return found


class TestUNet:
    def test_the_output_has_the_samples_shape_and_type(self) -> None:
        found = answer(a_unet(), inputs(size=32))

        assert found.shape == (2, 2, 4, 32, 32)
        assert found.dtype == torch.float32
        assert not found.requires_grad

    def test_the_same_twice(self) -> None:
        unet = FusedUNet.from_reference(a_unet())
        with torch.inference_mode():
            first, second = (unet.forward(**inputs()) for _ in range(2))

        assert torch.equal(first, second)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"num_attention_heads": (8, 16)},
            {"num_attention_heads": 4},
            {"cross_attention_dim": (32, 32)},
            {"transformer_layers_per_block": (1, 2)},
            {"layers_per_block": (1, 2)},
        ],
        ids=str,
    )
    def test_one_number_or_one_a_level(self, distance: Any, changes: dict[str, Any]) -> None:
        unet = a_unet(**changes)

        assert distance(answer(unet), wanted(unet)) <= CLOSE

    @pytest.mark.parametrize(
        "timestep",
        [
            10,
            10.5,
            torch.tensor(10),
            torch.tensor([10]),
            torch.tensor([1.6378]),
            torch.tensor([10, 10]),
            torch.tensor([10.0, 250.0]),
        ],
        ids=repr,
    )
    def test_every_form_of_a_timestep(self, distance: Any, timestep: Any) -> None:
        unet, given = a_unet(), inputs() | {"timestep": timestep}

        assert distance(answer(unet, given), wanted(unet, given)) <= CLOSE

    def test_timesteps_that_are_neither_one_nor_one_for_each_item_are_refused(self) -> None:
        with pytest.raises(ValueError, match="3 timesteps for a batch of 2"):
            answer(a_unet(), inputs() | {"timestep": torch.tensor([1, 2, 3])})

    def test_a_tuple_and_an_object_hold_what_it_returns(self, distance: Any) -> None:
        unet, found = a_unet(), answer(a_unet())
        with torch.inference_mode():
            (from_tuple,) = unet(**inputs(), return_dict=False)
            from_object = unet(**inputs(), return_dict=True).sample

        assert distance(found, from_tuple) <= CLOSE
        assert distance(found, from_object) <= CLOSE

    @pytest.mark.parametrize(
        "saving",
        [{}, {"variant": "fp16"}, {"max_shard_size": "200KB"}],
        ids=["plain", "variant", "shards"],
    )
    def test_saved_and_loaded_it_answers_the_same(
        self, tmp_path: Path, distance: Any, saving: dict[str, Any]
    ) -> None:
        unet = a_unet()
        unet.save_pretrained(tmp_path, **saving)
        if "max_shard_size" in saving:
            assert len(list(tmp_path.glob("*.safetensors"))) > 1

        loaded = type(unet).from_pretrained(tmp_path, variant=saving.get("variant")).eval()

        # Not to the bit: loaded weights lie where the file has them, and products round by the address.
        assert distance(answer(loaded), answer(unet)) <= CLOSE

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_loaded_in_a_type_it_works_in_it(
        self, tmp_path: Path, distance: Any, dtype: torch.dtype
    ) -> None:
        unet = a_unet()
        unet.save_pretrained(tmp_path)
        loaded = type(unet).from_pretrained(tmp_path, torch_dtype=dtype).eval()

        folded = FusedUNet.from_reference(loaded)

        assert folded.dtype == dtype
        given = inputs() | {
            key: inputs()[key].to(dtype)
            for key in ("sample", "encoder_hidden_states", "added_time_ids")
        }
        with torch.inference_mode():
            found = folded.forward(**given)
        assert found.dtype == dtype
        limit = CLOSE if dtype == torch.float32 else 8 * torch.finfo(dtype).eps
        assert distance(found, wanted(unet)) <= limit

    def test_a_copy_answers_the_same(self) -> None:
        folded = FusedUNet.from_reference(a_unet())
        with torch.inference_mode():
            found = copy.deepcopy(folded).forward(**inputs())

            assert torch.equal(found, folded.forward(**inputs()))

    @pytest.mark.parametrize("processor", ["AttnProcessor", "AttnProcessor2_0"])
    def test_either_plain_processor(self, distance: Any, processor: str) -> None:
        from diffusers.models import attention_processor

        unet = a_unet()
        before = answer(unet)
        unet.set_attn_processor(getattr(attention_processor, processor)())

        assert {type(one).__name__ for one in unet.attn_processors.values()} == {processor}
        assert torch.equal(answer(unet), before)
        assert distance(before, wanted(unet)) <= CLOSE

    def test_the_default_processors(self, distance: Any) -> None:
        unet = a_unet()
        unet.set_default_attn_processor()

        assert distance(answer(unet), wanted(unet)) <= CLOSE

    def test_fused_projections_and_undone_again(self, distance: Any) -> None:
        unet = a_unet()
        before = answer(unet)
        unet.fuse_qkv_projections()
        assert distance(answer(unet), wanted(unet)) <= CLOSE
        unet.unfuse_qkv_projections()

        assert torch.equal(answer(unet), before)

    def test_chunked_feed_forwards_and_checkpoints_change_nothing(self, distance: Any) -> None:
        unet = a_unet()
        before = answer(unet)
        unet.enable_forward_chunking(1, 1)
        assert torch.equal(answer(unet), before)
        assert distance(before, wanted(unet)) <= CLOSE
        unet.enable_gradient_checkpointing()

        assert unet.is_gradient_checkpointing
        assert torch.equal(answer(unet), before)

    def test_no_gradient_is_taken_and_the_model_is_left_as_it_was(self) -> None:
        unet = a_unet().train()
        before = {name: weight.clone() for name, weight in unet.state_dict().items()}

        found = FusedUNet.from_reference(unet).forward(**inputs())

        assert not found.requires_grad
        assert unet.training
        assert all(weight.grad is None for weight in unet.parameters())
        assert all(torch.equal(now, before[name]) for name, now in unet.state_dict().items())

    def test_a_batch_is_its_items(self, distance: Any) -> None:
        unet, both = FusedUNet.from_reference(a_unet()), inputs()
        with torch.inference_mode():
            together = unet.forward(**both)
            for item in range(2):
                alone = {
                    key: value if key == "timestep" else value[item : item + 1]
                    for key, value in both.items()
                }
                assert distance(unet.forward(**alone), together[item : item + 1]) <= CLOSE

    @pytest.mark.parametrize(("frames", "size"), [(2, 8), (3, 16), (14, 8), (25, 4), (5, 7)])
    def test_other_frame_counts_and_sizes(self, distance: Any, frames: int, size: int) -> None:
        unet, given = a_unet(), inputs(1, frames, size)
        if size % 2 == 0:
            assert distance(answer(unet, given), wanted(unet, given)) <= CLOSE
            return
        # Sizes that do not halve evenly are for the reference's own upsampling to allow.
        assert answer(unet, given).shape == given["sample"].shape

    @pytest.mark.parametrize(
        "offload",
        [
            {"one_by_one": True},
            {"passes": Passes(5_000)},
            {"skips": HostSkips},
            {"one_by_one": True, "passes": Passes(5_000), "skips": HostSkips},
        ],
        ids=["one by one", "in pieces", "skips in host memory", "all of it"],
    )
    def test_in_less_memory_it_answers_the_same_and_again(
        self, distance: Any, offload: dict[str, Any]
    ) -> None:
        whole = FusedUNet.from_reference(a_unet())
        small = dataclasses.replace(whole, **offload).to("cpu", conditioning=False)
        with torch.inference_mode():
            usual = whole.forward(**inputs())
            for _ in range(2):
                assert distance(small.forward(**inputs()), usual) <= CLOSE

    def test_layerwise_casting_is_refused_by_name(self) -> None:
        unet = a_unet()
        unet.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)

        with pytest.raises(UnknownPart):
            answer(unet)

    @pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
    def test_group_offloading_is_refused_by_name(self, kind: str) -> None:
        unet = a_unet()
        options = {"num_blocks_per_group": 1} if kind == "block_level" else {}
        unet.enable_group_offload(
            onload_device=torch.device("cpu"),
            offload_device=torch.device("cpu"),
            offload_type=kind,
            **options,
        )

        with pytest.raises(UnknownPart):
            answer(unet)
