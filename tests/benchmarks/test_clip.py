"""A measured clip says all that a comparison needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from benchmarks.setting import Setting

KEYS = {
    "benchmark", "gpu", "engine", "speed", "frames", "steps", "width", "height", "dtype",
    "synthetic", "versions", "seconds_per_clip", "gpu_s", "peak_bytes",
}  # fmt: skip


def test_speeds_and_compiled_parts_are_measured_and_told(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that is not there: one graph is made of the tiny network, and the rest runs as it is."""
    from benchmarks.clip import measure
    from svd_local.engine.fused import fp8

    monkeypatch.setattr(fp8, "LEAST_INPUTS", 64)
    result = measure(
        setting, "fused-compiled", steps=2, runs=1, backend="none such", speed="fp8+cached"
    )
    assert (result["speed"], result["attention"]) == ("fp8+cached", "torch's choice")
    assert result["compile"]["graphs"] == 1
    assert "none such" in result["compile"]["failure"]
    with pytest.raises(ValueError, match="has no layers in 8 bits"):
        measure(setting, "reference", steps=2, runs=1, speed="fp8")


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_result_has_every_key_and_its_phases_add_up(setting: Setting, engine: str) -> None:
    from benchmarks.clip import measure

    result = measure(setting, engine, steps=2, runs=2)
    assert set(result) >= KEYS
    assert (result["benchmark"], result["engine"], result["speed"]) == ("clip", engine, "exact")
    assert (result["frames"], result["steps"], result["gpu"]) == (2, 2, None)
    assert result["synthetic"] is True
    assert set(result["seconds_per_clip"]) == {"median", "min", "max", "n"}
    assert result["seconds_per_clip"]["n"] == 2
    phases = {name: phase["max"] for name, phase in result["phases"].items()}
    inner = phases["encode_image"] + phases["denoise"] + phases["decode"]
    assert result["gpu_s"] <= inner * 2
    assert result["gpu_s"] < result["seconds_per_clip"]["max"]
    assert result["step_ms"]["n"] == 2 * 2
    assert result["peak_bytes"] > 2 * 2 * 64 * 128 * 3
    json.dumps(result)


def test_every_mode_and_budget_has_the_same_keys_and_says_what_it_was(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.clip import measure
    from benchmarks.speeds import with_distilled
    from svd_local.engine import tiny
    from svd_local.engine.values import Caching

    assert setting.checkpoint.path is not None
    models = setting.checkpoint.path.parent
    monkeypatch.setenv("SVD_LOCAL_MODELS_DIR", str(models))
    [own] = (tiny.ensure(models) / "unet").glob("*.safetensors")

    cached = measure(setting, "fused", steps=3, runs=1, speed="cached", caching=Caching(2, 3))
    with with_distilled(setting, own) as few:
        distilled = measure(
            few, "fused", steps=1, runs=1, speed="distilled", schedule="consistency"
        )
    tight = measure(setting, "fused", steps=1, runs=1, budget=37 * 2**20)

    for result in (cached, distilled, tight):
        assert set(result) >= KEYS
        assert result["peak_bytes"] == pytest.approx(result["predicted_peak_bytes"], rel=0.1)
    assert [cached[key] for key in ("speed", "cache_interval", "cache_depth")] == ["cached", 2, 3]
    assert (distilled["speed"], distilled["schedule"]) == ("distilled", "consistency")
    assert "only the time means anything" in distilled["distilled"]
    assert distilled["checkpoint"] == "tiny-svd"
    assert (tight["speed"], tight["budget_bytes"]) == ("exact", 37 * 2**20)
    assert "streaming decode" in tight["plan"]
    assert tight["peak_bytes"] <= tight["budget_bytes"]
    assert cached["budget_bytes"] is None
    json.dumps([cached, distilled, tight])


def test_a_budget_too_small_is_refused_with_the_least_that_would_do(setting: Setting) -> None:
    from benchmarks.clip import measure
    from svd_local.errors import InvalidRequest

    with pytest.raises(InvalidRequest) as refused:
        measure(setting, "fused", steps=1, runs=1, budget=2**20)
    assert "Allow at least" in refused.value.hint
    with pytest.raises(ValueError, match="compiled engine plans for no budget"):
        measure(setting, "compiled", steps=1, runs=1, budget=2**30)


def test_a_clip_begun_again_is_no_measurement(setting: Setting) -> None:
    from benchmarks.planned import Planned
    from benchmarks.setting import picture
    from svd_local.engine.streams import drained
    from svd_local.engine.takes import Take
    from svd_local.engine.values import ignore_report
    from svd_local.errors import OutOfMemory

    planned = Planned("fused", setting, None)
    take = Take("fused", "float32", None)
    planned._session.make = lambda *_, **__: (item for item in (take, take))  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(OutOfMemory, match="begun again"):
        drained(planned.render(picture(128, 64), setting.sampling(1), ignore_report))


def test_the_fused_engine_is_not_kept_twice(setting: Setting) -> None:
    from benchmarks.engines import ready
    from benchmarks.setting import picture
    from svd_local.engine.streams import whole
    from svd_local.engine.values import ignore_report

    render = ready("fused", setting).render
    first, second = (
        whole(render(picture(128, 64), setting.sampling(1), ignore_report)).frames for _ in range(2)
    )
    assert first.shape == (2, 64, 128, 3)
    assert (first == second).all()


def test_a_clip_that_is_begun_anew_forgets_its_steps() -> None:
    from benchmarks.clip import StepClock

    clock = StepClock(on_gpu=False)
    for stage, done in [("load", 0), ("denoise", 0), ("denoise", 1), ("denoise", 0)]:
        clock(stage, done, 2)
    assert clock.steps_ms() == []
    clock("denoise", 1, 2)
    clock("decode", 0, 2)
    assert len(clock.steps_ms()) == 1


def test_ten_steps_are_a_schedule_of_their_own(setting: Setting) -> None:
    from benchmarks.clip import measure

    with pytest.raises(ValueError, match="10 steps"):
        measure(setting, "fused", steps=3, schedule="align-your-steps", runs=1)


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from benchmarks.common import arguments_for
    from benchmarks.setting import Setting

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        Setting.of(arguments_for("").parse_args(["--device", "cuda"]))


def test_results_appear_whole(tmp_path: Path) -> None:
    from benchmarks.common import write_json

    target = tmp_path / "new" / "result.json"
    write_json(target, {"a": 1})
    with pytest.raises(TypeError):
        write_json(target, {"a": object()})
    assert json.loads(target.read_text()) == {"a": 1}
    assert list(target.parent.iterdir()) == [target]


def test_the_compiled_step_is_the_fused_one() -> None:
    import torch
    from diffusers import UNetSpatioTemporalConditionModel

    from benchmarks.engines import CompiledUNet
    from svd_local.engine.fused.unet import FusedUNet

    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        down_block_types=("DownBlockSpatioTemporal",),
        up_block_types=("UpBlockSpatioTemporal",),
        block_out_channels=(32,),
        num_attention_heads=(1,),
        cross_attention_dim=8,
        layers_per_block=1,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    ).eval()
    with torch.inference_mode():
        fused = FusedUNet.from_reference(unet)
        clip = fused.prepare(
            image_latents=torch.randn(2, 4, 8, 8),
            image_embeddings=torch.randn(2, 1, 8),
            added_time_ids=torch.rand(1, 3),
            timesteps=torch.tensor([0.5, -0.5]),
            num_frames=2,
            guidance=torch.tensor([1.0, 3.0]),
        )
        latents = torch.randn(1, 2, 4, 8, 8)
        compiled = CompiledUNet.of(fused, "eager")
        for step in range(2):
            wanted = fused.step(latents, clip, step)
            torch.testing.assert_close(compiled.step(latents, clip, step), wanted)
