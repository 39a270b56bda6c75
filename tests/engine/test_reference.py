import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from svd_local.engine.placement import clear
from svd_local.engine.reference import render
from svd_local.engine.streams import whole
from svd_local.engine.values import Sampling, UnusableFrames


class Stop(Exception):
    """What a caller raises to stop a clip."""


def bare(pipeline: Any, picture: Any, sampling: Sampling, **options: Any) -> np.ndarray[Any, Any]:
    """The pipeline called as its documentation says, frames as its own pictures."""
    pictures = pipeline(
        picture,
        width=sampling.width,
        height=sampling.height,
        num_frames=sampling.frames,
        num_inference_steps=sampling.steps,
        fps=sampling.fps,
        motion_bucket_id=sampling.motion,
        noise_aug_strength=sampling.noise,
        min_guidance_scale=sampling.guidance[0],
        max_guidance_scale=sampling.guidance[1],
        generator=torch.Generator().manual_seed(sampling.seed),
        output_type="pil",
        **options,
    ).frames[0]
    return np.stack([np.asarray(frame) for frame in pictures])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"guidance": (1.0, 1.0), "motion": 20, "fps": 8},
        {"noise": 0.3, "frames": 2, "width": 72, "height": 40, "decode_chunk": 2},
    ],
    ids=["defaults", "no guidance", "odd size"],
)
def test_frames_equal_the_bare_pipelines(
    tiny_pipeline: Any, picture: Any, quick: Sampling, change: dict[str, Any]
) -> None:
    sampling = dataclasses.replace(quick, **change)

    made = whole(render(tiny_pipeline, picture, sampling))

    assert made.frames.dtype == np.uint8
    assert made.frames.shape == (sampling.frames, sampling.height, sampling.width, 3)
    assert np.array_equal(made.frames, bare(tiny_pipeline, picture, sampling))
    assert min(made.encode_image_s, made.denoise_s, made.decode_s) > 0


def test_a_smaller_decode_chunk_is_the_pipelines_own(
    tiny_pipeline: Any, picture: Any, quick: Sampling
) -> None:
    chunked = dataclasses.replace(quick, decode_chunk=2)

    made = whole(render(tiny_pipeline, picture, chunked)).frames

    assert np.array_equal(made, bare(tiny_pipeline, picture, quick, decode_chunk_size=2))
    assert not np.array_equal(made, whole(render(tiny_pipeline, picture, quick)).frames)


def test_the_ten_step_schedule_is_the_one_made_for_svd(
    tiny_pipeline: Any, picture: Any, quick: Sampling
) -> None:
    from diffusers.schedulers import AysSchedules

    fast = dataclasses.replace(quick, schedule="align-your-steps", steps=10)
    sigmas = AysSchedules["StableDiffusionVideoSigmas"]

    made = whole(render(tiny_pipeline, picture, fast))

    assert np.array_equal(made.frames, bare(tiny_pipeline, picture, fast, sigmas=sigmas))
    assert not np.array_equal(
        made.frames,
        whole(render(tiny_pipeline, picture, dataclasses.replace(quick, steps=10))).frames,
    )


def test_the_ten_step_schedule_has_no_other_length(
    tiny_pipeline: Any, picture: Any, quick: Sampling
) -> None:
    with pytest.raises(ValueError, match="10 steps, not 2"):
        whole(
            render(tiny_pipeline, picture, dataclasses.replace(quick, schedule="align-your-steps"))
        )


def test_progress_tells_every_step_and_chunk(
    tiny_pipeline: Any, picture: Any, quick: Sampling
) -> None:
    told: list[tuple[str, int, int]] = []

    whole(
        render(
            tiny_pipeline,
            picture,
            dataclasses.replace(quick, decode_chunk=2),
            report=lambda *step: told.append(step),
        )
    )

    assert told == [
        ("encode-image", 0, 0),
        ("denoise", 0, 2),
        ("denoise", 1, 2),
        ("denoise", 2, 2),
        ("decode", 0, 3),
        ("decode", 2, 3),
        ("decode", 3, 3),
    ]


@pytest.mark.parametrize("moment", [("denoise", 1, 2), ("decode", 2, 3)], ids=["step", "chunk"])
def test_stopped_midway_the_next_clip_is_the_same(
    tiny_pipeline: Any, picture: Any, quick: Sampling, moment: tuple[str, int, int]
) -> None:
    chunked = dataclasses.replace(quick, decode_chunk=2)
    before = whole(render(tiny_pipeline, picture, chunked)).frames

    stop = False

    def report(*step: Any) -> None:
        nonlocal stop
        stop = stop or step == moment

    def check() -> None:
        if stop:
            raise Stop

    with pytest.raises(Stop):
        whole(render(tiny_pipeline, picture, chunked, report=report, check=check))
    clear(tiny_pipeline)

    assert np.array_equal(whole(render(tiny_pipeline, picture, chunked)).frames, before)


def test_the_pipeline_is_left_unshadowed(tiny_pipeline: Any, picture: Any, quick: Sampling) -> None:
    whole(render(tiny_pipeline, picture, quick))

    assert "prepare_latents" not in vars(tiny_pipeline)
    assert "decode_latents" not in vars(tiny_pipeline)
    assert "decode" not in vars(tiny_pipeline.vae)


def test_nan_from_the_denoiser_is_not_decoded(
    tiny_pipeline: Any, picture: Any, quick: Sampling
) -> None:
    stages: list[str] = []
    hook = tiny_pipeline.unet.register_forward_hook(
        lambda _module, _inputs, output: (output[0] * float("nan"),)
    )
    try:
        with pytest.raises(UnusableFrames, match="denoiser gave NaN"):
            whole(
                render(tiny_pipeline, picture, quick, report=lambda stage, *_: stages.append(stage))
            )
    finally:
        hook.remove()

    assert "decode" not in stages


@pytest.mark.parametrize(
    ("value", "what"), [(float("nan"), "decoder gave NaN"), (-1.0, "black")], ids=["nan", "black"]
)
def test_unusable_frames_never_become_bytes(
    tiny_pipeline: Any, picture: Any, quick: Sampling, value: float, what: str
) -> None:
    hook = tiny_pipeline.vae.decoder.register_forward_hook(
        lambda _module, _inputs, output: torch.full_like(output, value)
    )
    try:
        with pytest.raises(UnusableFrames, match=what):
            whole(render(tiny_pipeline, picture, quick))
    finally:
        hook.remove()


def test_a_black_picture_may_become_a_black_clip(tiny_pipeline: Any, quick: Sampling) -> None:
    from PIL import Image

    hook = tiny_pipeline.vae.decoder.register_forward_hook(
        lambda _module, _inputs, output: torch.full_like(output, -1.0)
    )
    try:
        made = whole(render(tiny_pipeline, Image.new("RGB", (64, 64)), quick))
    finally:
        hook.remove()

    assert made.frames.max() == 0
