"""The local tier's speeds: what each is made of, kept apart, and refused where it cannot be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from svd_local.cli import run
from svd_local.engine import download
from svd_local.engine.fused import fp8
from svd_local.engine.fused.unknown import UnknownPart
from svd_local.errors import CheckpointUnavailable, InvalidRequest
from svd_local.keyframe.types import Keyframe
from svd_local.request import ClipRequest
from svd_local.tiers import gpus, local, speeds
from svd_local.tiers.base import Job, Monitor, Plan
from svd_local.tiers.gpus import Gpu
from svd_local.tiers.local import LocalTier

TINY: dict[str, Any] = {"prompt": "x", "device": "cpu", "size": (64, 64), "seed": 5}


@pytest.fixture
def models(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny-svd``, and ``few-steps`` whose UNet has other random weights."""
    import torch
    from safetensors.torch import load_file, save_file

    from svd_local.engine import tiny

    torch.set_num_threads(1)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    made = tiny.ensure(shared / "tiny-models")
    folder = tmp_path / "models"
    (folder / "few-steps").mkdir(parents=True)
    (folder / "tiny-svd").symlink_to(made, target_is_directory=True)
    (folder / "few-steps" / "svd_local.json").write_text('{"distilled_from": "tiny-svd"}')
    weights = load_file(made / "unet" / "diffusion_pytorch_model.safetensors")
    changed = {name: weight * 1.01 for name, weight in weights.items()}
    save_file(changed, folder / "few-steps" / "unet.safetensors")
    return folder


@pytest.fixture
def tier(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalTier]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    made = LocalTier(models_dir=models, default_checkpoint="tiny-svd")
    yield made
    made.close()


def frames_of(tier: LocalTier, request: ClipRequest) -> np.ndarray[Any, Any]:
    plan = tier.plan(request)
    image = Image.linear_gradient("L").resize(plan.size).convert("RGB")
    job = Job(request, plan, (Keyframe(image, "0" * 64, "picture"),), Monitor())
    return np.concatenate(list(tier.generate(job).chunks))


def fingerprint(request: ClipRequest, plan: Plan) -> str:
    return request.fingerprint({**plan.fingerprint, "parameters": dict(plan.parameters)})


def test_a_cached_clip_says_so_and_is_never_taken_for_another(tier: LocalTier) -> None:
    asked = [
        {},
        {"speed": "cached"},
        {"speed": "cached", "cache_interval": 2},
        {"speed": "cached", "cache_depth": 2},
        {"speed": "distilled"},
    ]
    requests = [ClipRequest(**TINY, **one) for one in asked]
    plans = [tier.plan(request) for request in requests]

    assert [plan.speed for plan in plans] == ["exact", "cached", "cached", "cached", "distilled"]
    prints = [fingerprint(request, plan) for request, plan in zip(requests, plans, strict=True)]
    assert len(set(prints)) == len(prints)
    cached = plans[1]
    assert (cached.parameters["cache_interval"], cached.parameters["cache_depth"]) == (3, 1)
    assert "cache_depth" not in plans[0].parameters
    approximate = [[w for w in plan.warnings if w.startswith("approximate")] for plan in plans]
    assert approximate[0] == []
    assert all(len(found) == 1 for found in approximate[1:])
    assert "every 3rd step" in approximate[1][0]


def test_cached_clips_differ_from_exact_ones_except_at_an_interval_of_one(tier: LocalTier) -> None:
    exact, cached, every = (
        frames_of(tier, ClipRequest(**TINY, steps=4, **more))
        for more in ({}, {"speed": "cached"}, {"speed": "cached", "cache_interval": 1})
    )

    assert not np.array_equal(cached, exact)
    assert np.array_equal(every, exact)


def test_an_interval_of_one_is_not_called_approximate(tier: LocalTier) -> None:
    plan = tier.plan(ClipRequest(**TINY, speed="cached", cache_interval=1))

    assert not any("approximate" in warning for warning in plan.warnings)


def test_the_depth_keeps_to_the_network(tier: LocalTier) -> None:
    plan = tier.plan(ClipRequest(**TINY, speed="cached", cache_depth=40))

    [correction] = plan.corrections
    assert (correction.field, correction.to, plan.parameters["cache_depth"]) == (
        *("cache_depth", 11, 11),
    )


def test_the_ten_step_schedule_is_called_approximate(tier: LocalTier) -> None:
    warnings = tier.plan(ClipRequest(**TINY, quality="fast")).warnings

    assert "approximate: 10 steps, on a schedule made for so few" in warnings


def test_the_reference_engine_caches_nothing(tier: LocalTier) -> None:
    with pytest.raises(InvalidRequest, match="reference engine caches no features") as refused:
        tier.plan(ClipRequest(**TINY, speed="cached", engine="reference"))

    assert refused.value.field == "speed"


def test_a_model_the_fused_engine_does_not_know_is_not_silently_made_exact(
    tier: LocalTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise UnknownPart("unet.mid_block", "Adapter", "ResnetBlock2D")

    monkeypatch.setattr("svd_local.engine.fused.render.Fused.from_pipeline", refuse)

    for _ in range(2):
        with pytest.raises(
            InvalidRequest, match=r"caches no features: .*unet\.mid_block"
        ) as refused:
            frames_of(tier, ClipRequest(**TINY, steps=1, speed="cached"))
    assert (refused.value.field, refused.value.hint) == ("speed", "Write --speed exact.")
    assert len(frames_of(tier, ClipRequest(**TINY, steps=1))) == 14


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A GPU of the given compute capability."""

    def there(*capability: int) -> None:
        found = Gpu("Testing 9000", 2**35, 2**35, "999.1", capability=capability or None)
        for module in (gpus, local, speeds):
            monkeypatch.setattr(module, "list_gpus", lambda: [found])
        monkeypatch.setattr(local, "no_cuda", lambda: None)

    return there


@pytest.mark.parametrize("speed", speeds.FP8_SPEEDS)
def test_eight_bits_are_refused_where_they_gain_nothing(
    tier: LocalTier, gpu: Callable[..., None], speed: str
) -> None:
    on_gpu = {**TINY, "device": "cuda"}
    with pytest.raises(InvalidRequest, match="fp8 needs a GPU") as refused:
        tier.plan(ClipRequest(**TINY, speed=speed))
    assert (refused.value.field, "--device cpu" in refused.value.hint) == ("speed", True)
    gpu(8, 6)
    with pytest.raises(InvalidRequest, match=r"capability 8\.9 .*Testing 9000 has 8\.6"):
        tier.plan(ClipRequest(**on_gpu, speed=speed))
    gpu(9, 0)
    with pytest.raises(InvalidRequest, match="tiny-svd has no layer wide enough for fp8"):
        tier.plan(ClipRequest(**on_gpu, speed=speed))
    with pytest.raises(InvalidRequest, match="reference engine has no layers in 8 bits"):
        tier.plan(ClipRequest(**on_gpu, speed=speed, engine="reference"))


@pytest.mark.parametrize("capability", [(8, 9), (12, 0), ()])
def test_eight_bits_are_named_approximate_and_kept_apart(
    tier: LocalTier,
    gpu: Callable[..., None],
    capability: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also on a GPU of which only CUDA knows what it is: then the engine looks."""
    gpu(*capability)
    monkeypatch.setattr(fp8, "LEAST_INPUTS", 64)
    requests = [
        ClipRequest(**{**TINY, "device": "cuda"}, speed=speed)
        for speed in ("exact", "cached", *speeds.FP8_SPEEDS)
    ]
    plans = [tier.plan(request) for request in requests]

    assert [plan.speed for plan in plans] == ["exact", "cached", "fp8", "fp8+cached"]
    assert [plan.parameters.get("cache_interval") for plan in plans] == [None, 3, None, 3]
    prints = [fingerprint(request, plan) for request, plan in zip(requests, plans, strict=True)]
    assert len(set(prints)) == 4
    told = [sum(w.startswith("approximate") for w in plan.warnings) for plan in plans]
    assert told == [0, 1, 1, 2]
    assert "8 bits" in " ".join(plans[2].warnings)


def test_a_clip_in_eight_bits_differs_from_the_exact_one(
    tier: LocalTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulated: what a GPU would run, as far as the CPU can."""
    monkeypatch.setattr(fp8, "LEAST_INPUTS", 64)
    monkeypatch.setattr(local, "require_fp8", lambda *_: None)
    monkeypatch.setattr(local, "require_speed", lambda *_: None)
    exact, eight = (
        frames_of(tier, ClipRequest(**TINY, steps=2, speed=speed)) for speed in ("exact", "fp8")
    )

    assert not np.array_equal(eight, exact)


def test_the_reference_engine_is_not_compiled_and_says_so(tier: LocalTier) -> None:
    plan = tier.plan(ClipRequest(**TINY, compile=True, engine="reference"))

    [correction] = plan.corrections
    assert (correction.field, correction.why) == ("compile", "only the fused engine is compiled")
    assert tier.plan(ClipRequest(**TINY, compile=False, engine="reference")).corrections == ()
    assert tier.plan(ClipRequest(**TINY, compile=True)).corrections == ()


def test_a_distilled_clip_takes_four_steps_and_little_guidance(tier: LocalTier) -> None:
    request = ClipRequest(**TINY, speed="distilled")
    plan = tier.plan(request)

    assert plan.checkpoint == "few-steps"
    assert plan.parameters["schedule"] == "consistency"
    assert [plan.parameters[name] for name in ("steps", "motion", "guidance")] == [
        *(4, 80, [1.0, 1.2])
    ]
    assert (
        plan.fingerprint["checkpoint"] != tier.plan(ClipRequest(**TINY)).fingerprint["checkpoint"]
    )
    fused = frames_of(tier, request).astype(int)
    reference = frames_of(tier, request.model_copy(update={"engine": "reference"}))
    assert (np.abs(fused - reference) <= 1).mean() >= 0.999


@pytest.mark.parametrize("named", [None, "tiny-svd", "few-steps"])
def test_it_is_found_by_whatever_name(tier: LocalTier, named: str | None) -> None:
    plan = tier.plan(ClipRequest(**TINY, speed="distilled", checkpoint=named))

    assert (plan.checkpoint, plan.synthetic) == ("few-steps", True)


def test_of_two_distilled_ones_the_result_says_which_was_taken(
    tier: LocalTier, models: Path
) -> None:
    (models / "other").mkdir()
    for name in ("svd_local.json", "unet.safetensors"):
        (models / "other" / name).symlink_to(models / "few-steps" / name)

    plan = tier.plan(ClipRequest(**TINY, speed="distilled", frames=14))

    assert plan.checkpoint == "few-steps"
    [told] = [one for one in plan.warnings if "distilled UNets" in one]
    assert told.startswith("few-steps was taken of 2")
    assert told.endswith(": other")


@pytest.mark.parametrize("speed", ["exact", "cached"])
def test_a_distilled_checkpoint_runs_at_no_other_speed(tier: LocalTier, speed: str) -> None:
    with pytest.raises(InvalidRequest, match="few-steps is distilled") as refused:
        tier.plan(ClipRequest(**TINY, speed=speed, checkpoint="few-steps"))

    assert refused.value.hint.startswith("Add --speed distilled")


def test_where_none_is_installed_it_is_refused_and_nothing_else_stands_in(tmp_path: Path) -> None:
    tier = LocalTier(models_dir=tmp_path, default_checkpoint="tiny-svd")

    with pytest.raises(
        CheckpointUnavailable, match="no distilled UNet for checkpoint tiny-svd"
    ) as e:
        tier.plan(ClipRequest(**TINY, speed="distilled"))

    assert not e.value.falls_through


def test_with_consent_both_parts_are_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    asked: list[str] = []
    monkeypatch.setattr(download, "pull", lambda name, *_, **__: asked.append(name))
    tier = LocalTier(models_dir=tmp_path, allow_download=True)

    with pytest.raises(CheckpointUnavailable):
        tier.plan(ClipRequest(**TINY, speed="distilled"))

    assert asked == ["svd-xt"]  # it did not come, so the other would be of no use


@pytest.fixture
def svd(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, Any]]]:
    picture = tmp_path / "picture.png"
    Image.linear_gradient("L").resize((128, 64)).convert("RGB").save(picture)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
    monkeypatch.setenv("SVD_LOCAL_MODELS_DIR", str(models))

    def call(*more: str) -> tuple[int, dict[str, Any]]:
        command = ["generate", "--image", str(picture), "--checkpoint", "tiny-svd", "--seed", "1"]
        command += ["--device", "cpu", "--size", "128x64", "--steps", "2", "--json", *more]
        status = run(command)
        document: dict[str, Any] = json.loads(capfd.readouterr().out)
        return status, document

    return call


def test_on_the_command_line(svd: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    cached = ("--speed", "cached", "--cache-interval", "2", "--cache-depth", "2")
    endings = [svd(*more) for more in ((), cached, cached, (), ("--speed", "distilled"))]

    assert [status for status, _ in endings] == [0] * 5
    told = [clip for _, clip in endings]
    assert [clip["speed"] for clip in told] == ["exact", "cached", "cached", "exact", "distilled"]
    assert [clip["cached"] for clip in told] == [False, False, True, True, False]
    assert told[1]["parameters"]["cache_depth"] == 2
    assert any(warning.startswith("approximate") for warning in told[2]["warnings"])
    status, refused = svd("--speed", "cached", "--cache-interval", "banana")
    assert (status, refused["error"]["field"]) == (2, "cache_interval")
