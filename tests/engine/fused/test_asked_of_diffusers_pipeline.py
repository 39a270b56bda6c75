"""What diffusers' own tests ask of the VAE and the pipeline; ``test_asked_of_diffusers`` says what and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.diffusers_models import a_pipeline, a_vae
from helpers.samplings import FULL_SIZE
from PIL import Image

from svd_local.engine import reference
from svd_local.engine.fused.decoder import FusedDecoder
from svd_local.engine.fused.denoise import denoise, guidance_ramp
from svd_local.engine.fused.passes import Passes
from svd_local.engine.fused.render import Fused, render
from svd_local.engine.fused.skips import HostSkips
from svd_local.engine.fused.streaming import Streaming
from svd_local.engine.streams import whole
from svd_local.engine.values import Sampling

CLOSE = 5e-6


class TestDecoder:
    """Of the VAE's round trip the engine has the way back; the way in is the VAE's own."""

    @staticmethod
    def latents(vae: Any, frames: int = 3) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        picture = torch.randn(frames, 3, 32, 32, generator=generator)
        with torch.inference_mode():
            found: torch.Tensor = vae.encode(picture).latent_dist.mode()
            return found

    @staticmethod
    def decoded(vae: Any, latents: torch.Tensor, **how: Any) -> torch.Tensor:
        decoder = dataclasses.replace(FusedDecoder.from_reference(vae), **how)
        with torch.inference_mode():
            return decoder.decode(latents, len(latents))

    def test_shape_type_and_values(self, distance: Any) -> None:
        vae = a_vae()
        latents = self.latents(vae)
        with torch.inference_mode():
            as_object = vae.decode(latents, num_frames=3).sample
            (as_tuple,) = vae.decode(latents, num_frames=3, return_dict=False)

        found = self.decoded(vae, latents)

        assert found.shape == (3, 3, 32, 32)
        assert found.dtype == torch.float32
        assert distance(found, as_object) <= CLOSE
        assert distance(found, as_tuple) <= CLOSE

    def test_the_whole_round_trip(self, distance: Any) -> None:
        vae = a_vae()
        picture = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            round_trip = vae(picture, num_frames=3).sample

        assert distance(self.decoded(vae, self.latents(vae)), round_trip) <= CLOSE

    def test_the_same_twice(self) -> None:
        vae = a_vae()
        latents = self.latents(vae)

        assert torch.equal(self.decoded(vae, latents), self.decoded(vae, latents))

    def test_saved_and_loaded(self, tmp_path: Path, distance: Any) -> None:
        vae = a_vae()
        latents = self.latents(vae)
        vae.save_pretrained(tmp_path)

        loaded = type(vae).from_pretrained(tmp_path).eval()

        assert distance(self.decoded(loaded, latents), self.decoded(vae, latents)) <= CLOSE

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_loaded_in_half_precision(
        self, tmp_path: Path, distance: Any, dtype: torch.dtype
    ) -> None:
        vae = a_vae()
        latents = self.latents(vae)
        vae.save_pretrained(tmp_path)
        loaded = type(vae).from_pretrained(tmp_path, torch_dtype=dtype).eval()

        found = self.decoded(loaded, latents.to(dtype))

        assert found.dtype == dtype
        assert distance(found, self.decoded(vae, latents)) <= 8 * torch.finfo(dtype).eps

    @pytest.mark.parametrize("processor", ["AttnProcessor", "AttnProcessor2_0"])
    def test_either_plain_processor(self, processor: str) -> None:
        from diffusers.models import attention_processor

        vae = a_vae()
        latents = self.latents(vae)
        before = self.decoded(vae, latents)
        vae.set_attn_processor(getattr(attention_processor, processor)())

        assert torch.equal(self.decoded(vae, latents), before)

    @pytest.mark.parametrize("frames", [1, 2, 3, 14])
    def test_streamed_it_is_the_same(self, distance: Any, frames: int) -> None:
        vae = a_vae()
        latents = self.latents(vae, frames)

        streamed = self.decoded(vae, latents, streaming=Streaming(host=True))

        assert distance(streamed, self.decoded(vae, latents)) <= 2 * CLOSE

    def test_gradient_checkpointing_changes_nothing(self) -> None:
        vae = a_vae()
        latents = self.latents(vae)
        before = self.decoded(vae, latents)
        vae.enable_gradient_checkpointing()

        assert torch.equal(self.decoded(vae, latents), before)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return a_pipeline()


@pytest.fixture(scope="module")
def folded(pipeline: Any) -> Fused:
    return Fused.from_pipeline(pipeline)


CLIP_SAMPLING = dataclasses.replace(
    FULL_SIZE,
    frames=2,
    decode_chunk=2,
    steps=2,
    guidance=(1.0, 2.5),
    width=32,
    height=32,
)


def a_picture() -> Image.Image:
    return Image.linear_gradient("L").resize((32, 32)).convert("RGB")


Within = Callable[[Any, Any], bool]


@pytest.fixture
def alike() -> Within:
    """Whether two clips are one within a grey level."""

    def compare(found: Any, other: Any) -> bool:
        assert found.shape == other.shape
        assert found.dtype == other.dtype == np.uint8
        return bool((np.abs(found.astype(int) - other) <= 1).mean() >= 0.999)

    return compare


class TestPipeline:
    def frames(self, pipeline: Any, folded: Fused, **changes: Any) -> Any:
        sampling = dataclasses.replace(CLIP_SAMPLING, **changes)
        return whole(render(pipeline, folded, a_picture(), sampling)).frames

    def wanted(self, pipeline: Any, **changes: Any) -> Any:
        sampling: Sampling = dataclasses.replace(CLIP_SAMPLING, **changes)
        sampling = dataclasses.replace(sampling, decode_chunk=sampling.frames)
        return whole(reference.render(pipeline, a_picture(), sampling)).frames

    def test_frames_are_an_array(self, pipeline: Any, folded: Fused) -> None:
        found = self.frames(pipeline, folded)

        assert isinstance(found, np.ndarray)
        assert found.shape == (2, 32, 32, 3)
        assert found.dtype == np.uint8

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"guidance": (1.0, 1.0)},
            {"frames": 3},
            {"frames": 14, "steps": 1},
            {"width": 64, "height": 48},
            {"steps": 5, "motion": 5, "noise": 0.3, "fps": 12},
        ],
        ids=str,
    )
    def test_frames_are_the_pipelines(
        self, pipeline: Any, folded: Fused, alike: Within, changes: dict[str, Any]
    ) -> None:
        assert alike(self.frames(pipeline, folded, **changes), self.wanted(pipeline, **changes))

    def test_a_tuple_and_an_object_hold_them(
        self, pipeline: Any, folded: Fused, alike: Within
    ) -> None:
        asked = {
            "image": a_picture(),
            "width": 32,
            "height": 32,
            "num_frames": 2,
            "num_inference_steps": 2,
            "max_guidance_scale": 2.5,
            "decode_chunk_size": 2,
            "output_type": "np",
        }
        as_object = pipeline(**asked, generator=torch.Generator().manual_seed(0)).frames
        as_tuple = pipeline(**asked, generator=torch.Generator().manual_seed(0), return_dict=False)
        found = self.frames(pipeline, folded, fps=7)

        for floats in (as_object[0], as_tuple[0] if as_tuple[0].ndim == 4 else as_tuple[0][0]):
            assert alike(found, (floats * 255).round().astype(np.uint8))

    def test_the_seed_decides(self, pipeline: Any, folded: Fused) -> None:
        first, again, other = (self.frames(pipeline, folded, seed=seed) for seed in (0, 0, 1))

        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_saved_and_loaded(
        self, pipeline: Any, folded: Fused, tmp_path: Path, alike: Within
    ) -> None:
        pipeline.save_pretrained(tmp_path)
        loaded = type(pipeline).from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)

        found = self.frames(loaded, Fused.from_pipeline(loaded))

        assert alike(found, self.frames(pipeline, folded))

    def test_in_half_precision_it_is_near(self, pipeline: Any, folded: Fused) -> None:
        """The reference's own limit is 5e-2 of the range."""
        half = a_pipeline(torch.float16)

        found = self.frames(half, Fused.from_pipeline(half))

        assert np.abs(found.astype(int) - self.frames(pipeline, folded)).max() <= 0.05 * 255
        assert half.vae.dtype == half.unet.dtype == torch.float16

    def test_the_type_of_the_folded_networks_follows(self) -> None:
        half = Fused.from_pipeline(a_pipeline(torch.float16))
        widened = Fused.from_pipeline(a_pipeline(torch.float16), torch.float32)

        assert (half.unet.dtype, widened.unet.dtype) == (torch.float16, torch.float32)

    def test_with_the_default_processors_set(
        self, folded: Fused, pipeline: Any, alike: Within
    ) -> None:
        other = a_pipeline()
        for component in (other.unet, other.vae):
            component.set_default_attn_processor()

        found = self.frames(other, Fused.from_pipeline(other))

        assert alike(found, self.frames(pipeline, folded))
        assert alike(found, self.wanted(other))

    def test_offloaded_and_offloaded_again(
        self, pipeline: Any, folded: Fused, alike: Within
    ) -> None:
        small = Fused(
            dataclasses.replace(
                folded.unet.to("cpu", conditioning=False),
                passes=Passes(4_000),
                one_by_one=True,
                skips=HostSkips,
            ),
            dataclasses.replace(folded.decoder, streaming=Streaming(host=True)),
        )
        usual = self.frames(pipeline, folded)
        first, second = (self.frames(pipeline, small) for _ in range(2))

        assert alike(first, usual)
        assert np.array_equal(first, second)

    def test_steps_are_told_as_the_pipelines_callback_is(
        self, pipeline: Any, folded: Fused
    ) -> None:
        told: list[tuple[str, int, int]] = []
        sampling = dataclasses.replace(CLIP_SAMPLING, steps=3)
        whole(
            render(
                pipeline, folded, a_picture(), sampling, report=lambda *event: told.append(event)
            )
        )

        assert [event for event in told if event[0] == "denoise"] == [
            ("denoise", done, 3) for done in range(4)
        ]

    def test_several_pictures_at_once_are_each_alone(
        self, pipeline: Any, folded: Fused, distance: Any
    ) -> None:
        """Diffusers skips its own test of this; the loop and the decoder take a batch of clips."""
        generator = torch.Generator().manual_seed(3)
        given = {
            "latents": torch.randn(2, 3, 4, 16, 16, generator=generator),
            "image_latents": torch.randn(2, 4, 16, 16, generator=generator),
            "image_embeddings": torch.randn(2, 1, 32, generator=generator),
            "added_time_ids": torch.tensor([[6, 127, 0.02]]).repeat(2, 1),
        }

        def run(rows: slice) -> torch.Tensor:
            latents = denoise(
                folded.unet,
                pipeline.scheduler,
                guidance=guidance_ramp(1.0, 2.5, 3),
                num_inference_steps=2,
                **{key: value[rows] for key, value in given.items()},
            )
            return folded.decoder.decode(latents.flatten(0, 1), 3)

        with torch.inference_mode():
            together = run(slice(0, 2))
            for item in range(2):
                alone = run(slice(item, item + 1))
                assert distance(alone, together[3 * item : 3 * item + 3]) <= 1e-4
