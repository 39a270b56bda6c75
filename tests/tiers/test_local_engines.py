"""The local tier's engines: chosen, compared on the command line, and fitted into memory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.local_jobs import TINY, frames_of, job_of
from helpers.original_layout import originals, tensors_of, write
from PIL import Image, ImageDraw

from svd_local.cli import run
from svd_local.media.probe import decode_frames
from svd_local.request import ClipRequest
from svd_local.tiers.base import Frames, Job
from svd_local.tiers.local import LocalTier

Pixels = np.ndarray[Any, Any]
Generate = Callable[..., dict[str, Any]]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    image = Image.linear_gradient("L").resize((128, 64)).convert("RGB")
    ImageDraw.Draw(image).ellipse((20, 10, 60, 50), fill=(230, 200, 60))
    path = tmp_path / "picture.png"
    image.save(path)
    return path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Pixels]:
    """The frames of each clip as they went to the video encoder, which changes them a little."""
    clips: list[Pixels] = []
    generate = LocalTier.generate

    def watched(tier: LocalTier, job: Job) -> Frames:
        frames = generate(tier, job)

        def kept() -> Iterator[np.ndarray[Any, Any]]:
            chunks = []
            for chunk in frames.chunks:
                chunks.append(chunk)
                yield chunk
            clips.append(np.concatenate(chunks).astype(int))

        return dataclasses.replace(frames, chunks=kept())

    monkeypatch.setattr(LocalTier, "generate", watched)
    return clips


@pytest.fixture
def generate(
    picture: Path,
    tmp_path: Path,
    tiny_models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Generate:
    """``svd-local generate`` on the CPU: what it told, after it ended with the status expected."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
    monkeypatch.setenv("SVD_LOCAL_MODELS_DIR", str(tiny_models))

    def call(*options: str, status: int = 0) -> dict[str, Any]:
        command = ["generate", "--image", str(picture), "--tier", "local", "--device", "cpu"]
        command += ["--size", "128x64", "--steps", "3", "--seed", "7", "--json", *options]
        assert run(command) == status
        document: dict[str, Any] = json.loads(capfd.readouterr().out)
        return document

    return call


def decoded(document: dict[str, Any]) -> Pixels:
    """The frames of a finished MP4, as a player would show them."""
    frames = list(decode_frames(Path(document["path"])))
    return np.stack(frames).astype(int)


def test_both_engines_make_the_same_clip(generate: Generate, seen: list[Pixels]) -> None:
    told = [
        generate("--checkpoint", "tiny-svd", "--engine", engine)
        for engine in ("reference", "fused")
    ]

    reference, fused = seen
    apart = np.abs(fused - reference).max(axis=-1)
    assert fused.shape == (14, 64, 128, 3)
    assert np.ptp(fused) > 50
    assert (apart <= 1).mean() >= 0.999
    assert [clip["engine"] for clip in told] == ["reference", "fused"]
    assert [clip["cached"] for clip in told] == [False, False]  # never one in the other's place
    memory = told[1]["memory"]
    assert memory["plan"] == "resident"
    assert memory["predicted_peak_bytes"] == pytest.approx(memory["measured_peak_bytes"], rel=0.1)
    # In the files as well, where a grey level before the encoder may become a few after it.
    files = [decoded(clip) for clip in told]
    assert files[0].shape == files[1].shape == fused.shape
    assert np.abs(files[0] - files[1]).mean() < 0.5
    assert np.abs(files[1] - fused).mean() < 8


def test_a_single_file_makes_the_folders_clip(
    generate: Generate, seen: list[Pixels], tiny_models: Path, tmp_path: Path
) -> None:
    tensors = originals(tensors_of(tiny_models / "tiny-svd"))
    path = write(tensors, tmp_path / "checkpoints" / "svd_xt.safetensors")

    folder = generate("--steps", "1", "--checkpoint", "tiny-svd")
    single = generate("--steps", "1", "--checkpoint", str(path))

    # Bit for bit is asked of the engine; where a file has its weights, a CPU rounds by the address.
    assert (np.abs(seen[0] - seen[1]) <= 1).mean() >= 0.999
    assert np.abs(decoded(folder) - decoded(single)).mean() < 0.5
    assert (single["checkpoint"], single["synthetic"]) == ("svd_xt", True)
    assert Path(single["path"]).name.startswith("synthetic_video_")
    assert single["fingerprint"] != folder["fingerprint"]
    again = generate("--steps", "1", "--checkpoint", "checkpoints/svd_xt.safetensors")
    assert again["cached"] is True


def test_a_single_file_that_is_none_is_refused_and_nothing_is_written(
    generate: Generate, tmp_path: Path
) -> None:
    import torch

    lora = write({"lora_unet.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    (tmp_path / "svd_xt.ckpt").write_bytes(b"\x80\x04")

    for name, why in (
        (str(lora), "a.safetensors is a LoRA"),
        ("./svd_xt.ckpt", "svd_xt.ckpt is a pickle"),
        ("./gone.safetensors", "is no folder and no file"),
    ):
        document = generate("--checkpoint", name, status=3)
        assert why in document["error"]["message"]
        assert document["error"]["hint"]
    assert not list((tmp_path / "media").rglob("*.mp4"))


def test_frames_equal_the_bare_pipelines(tier: LocalTier, tiny_models: Path) -> None:
    import torch
    from diffusers import StableVideoDiffusionPipeline

    asked: dict[str, Any] = {"prompt": "x", "seed": 5, "fps": 8, "motion": 90, "noise": 0.1, **TINY}
    request = ClipRequest(engine="reference", **asked)
    job = job_of(tier, request)
    bare = StableVideoDiffusionPipeline.from_pretrained(
        tiny_models / "tiny-svd", use_safetensors=True
    )
    pictures = bare(
        job.keyframes[0].image,
        width=64,
        height=64,
        num_frames=14,
        num_inference_steps=1,
        fps=8,
        motion_bucket_id=90,
        noise_aug_strength=0.1,
        generator=torch.Generator().manual_seed(5),
    ).frames[0]

    made = tier.generate(job)

    expected = np.stack([np.asarray(picture) for picture in pictures])
    assert np.array_equal(np.concatenate(list(made.chunks)), expected)
    assert (made.count, made.width, made.height) == (14, 64, 64)
    ending = made.ended()
    assert ending.memory is not None
    assert ending.memory.plan == "resident"
    assert made.ran == {"precision": "float32", "decode_chunk": 14}
    seconds = ending.timings.to_json()
    assert {name for name, value in seconds.items() if value} == {
        "load_s",
        "encode_image_s",
        "denoise_s",
        "decode_s",
    }


def test_the_fused_engine_is_the_usual_one_and_another_entry_in_the_cache(tier: LocalTier) -> None:
    usual = tier.plan(ClipRequest(prompt="x", **TINY))
    named = tier.plan(ClipRequest(prompt="x", engine="fused", **TINY))
    reference = tier.plan(ClipRequest(prompt="x", engine="reference", **TINY))

    assert usual.fingerprint == named.fingerprint != reference.fingerprint
    assert "decode_chunk" not in usual.fingerprint
    assert (usual.engine, reference.engine) == ("fused", "reference")


def test_a_model_the_fused_engine_does_not_know_runs_on_the_reference(
    tier: LocalTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.engine.fused.unknown import UnknownPart

    def refuse(*_: Any, **__: Any) -> None:
        raise UnknownPart("unet.mid_block", "Adapter", "ResnetBlock2D")

    monkeypatch.setattr("svd_local.engine.fused.render.Fused.from_pipeline", refuse)

    request = ClipRequest(prompt="x", seed=5, **TINY)
    job = job_of(tier, request)
    made = tier.generate(job)

    # Stored as what it is: a clip of the reference.
    named = tier.plan(request.model_copy(update={"engine": "reference"}))
    assert {**job.plan.fingerprint, **made.ran} == named.fingerprint
    assert made.engine == "reference"
    list(made.chunks)
    assert "unet.mid_block" in " ".join(made.ended().warnings)


def test_a_budget_leads_to_a_smaller_placement(tier: LocalTier) -> None:
    tight = ClipRequest(prompt="x", seed=1, engine="reference", vram_budget=60 * 2**20, **TINY)
    roomy = tight.model_copy(update={"vram_budget": None})

    made = tier.generate(job_of(tier, tight))
    pixels = np.concatenate(list(made.chunks))

    memory = made.ended().memory
    assert memory is not None
    assert memory.plan == "model-offload"
    assert memory.budget_bytes == 60 * 2**20
    assert (memory.predicted_peak_bytes or 0) <= 60 * 2**20
    assert np.array_equal(pixels, frames_of(tier, job_of(tier, roomy)))


def test_a_budget_leads_the_fused_engine_to_a_smaller_plan(tier: LocalTier) -> None:
    budget = 43 * 2**20
    tight = ClipRequest(prompt="x", seed=1, vram_budget=budget, **TINY)

    made = tier.generate(job_of(tier, tight))
    pixels = np.concatenate(list(made.chunks))

    memory = made.ended().memory
    assert memory is not None
    assert memory.plan == "resident + streaming decode"
    assert memory.budget_bytes == budget
    assert (memory.predicted_peak_bytes or 0) <= budget
    assert (memory.measured_peak_bytes or budget + 1) <= budget
    roomy = frames_of(tier, job_of(tier, tight.model_copy(update={"vram_budget": None})))
    assert np.abs(pixels.astype(int) - roomy).max() <= 1
