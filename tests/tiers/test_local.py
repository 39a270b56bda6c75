import dataclasses
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.local_jobs import TINY, frames_of, job_of

from svd_local.engine import download
from svd_local.errors import (
    Cancelled,
    CheckpointBroken,
    CheckpointGated,
    CheckpointUnavailable,
    CheckpointUnknown,
    InvalidRequest,
    OutOfMemory,
    TierFailed,
    TierUnavailable,
)
from svd_local.request import ClipRequest
from svd_local.result import Progress
from svd_local.tiers import gpus, local
from svd_local.tiers.base import Monitor, Tier
from svd_local.tiers.gpus import Gpu, list_gpus
from svd_local.tiers.local import LocalTier

GPU = Gpu("NVIDIA Testing 9000", 24 * 2**30, 23 * 2**30, "999.1")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU and a torch that can use it, as far as can be told without torch."""
    monkeypatch.setattr(gpus, "list_gpus", lambda: [GPU])
    monkeypatch.setattr(local, "list_gpus", lambda: [GPU])
    monkeypatch.setattr(gpus, "version", lambda _: "2.13.0+cu130")


def test_it_is_a_tier() -> None:
    made: Tier = LocalTier(models_dir=Path("models"))

    assert made.id == "local"
    made.close()


def test_the_networks_stay_loaded_until_another_checkpoint_is_asked_for(
    tier: LocalTier, tiny_models: Path, tmp_path: Path
) -> None:
    stages: list[str] = []

    def tell(progress: Progress) -> None:
        stages.append(progress.stage)

    request = ClipRequest(prompt="x", seed=1, **TINY)
    first = frames_of(tier, job_of(tier, request, progress=tell))
    again = frames_of(tier, job_of(tier, request, progress=tell))
    assert stages.count("load") == 1

    other = request.model_copy(update={"checkpoint": str(tiny_models / "tiny-svd")})
    frames_of(tier, job_of(tier, other, progress=tell))
    assert stages.count("load") == 2

    tier.close()
    after = frames_of(tier, job_of(tier, request, progress=tell))
    assert stages.count("load") == 3
    assert np.array_equal(first, again)
    assert np.array_equal(first, after)


def test_the_plan_is_made_without_files_or_torch(tmp_path: Path) -> None:
    request = ClipRequest(
        prompt="x", checkpoint="tiny-svd", device="cpu", frames=40, quality="fast"
    )

    plan = LocalTier(models_dir=tmp_path / "models").plan(request)

    assert plan.size == plan.output_size == (256, 144)
    assert plan.parameters["frames"] == 25
    assert (plan.parameters["steps"], plan.parameters["schedule"]) == (10, "align-your-steps")
    assert [(c.field, c.to) for c in plan.corrections] == [("frames", 25)]
    assert (plan.checkpoint, plan.engine, plan.device) == ("tiny-svd", "fused", "cpu")
    assert plan.synthetic
    assert plan.warnings == ("approximate: 10 steps, on a schedule made for so few",)
    assert not (tmp_path / "models").exists()


def test_what_changes_pixels_is_in_the_fingerprint(tier: LocalTier) -> None:
    printed = dict(tier.plan(ClipRequest(prompt="x", engine="reference", **TINY)).fingerprint)

    assert printed.pop("checkpoint").startswith("tiny-svd:")
    versions = printed.pop("versions")
    assert set(versions) == {"torch", "diffusers", "transformers"}
    assert printed == {
        "tier": "local",
        "speed": "exact",
        "engine": "reference",
        "device": "cpu",
        "precision": "float32",
        "decode_chunk": 14,
    }


def test_a_size_that_is_not_native_is_warned_of(tier: LocalTier) -> None:
    [warning] = tier.plan(ClipRequest(prompt="x", **TINY)).warnings

    assert "native 256x144" in warning


@pytest.mark.parametrize("by", ["request", "setting"])
def test_too_small_a_budget_is_refused_by_the_plan(tiny_models: Path, by: str) -> None:
    setting, asked = (None, 2**20) if by == "request" else (2**20, None)
    tier = LocalTier(models_dir=tiny_models, vram_budget=setting)

    with pytest.raises(
        InvalidRequest, match="1MiB is too little for 14 frames at 64x64"
    ) as refused:
        tier.plan(ClipRequest(prompt="x", vram_budget=asked, **TINY))

    assert refused.value.field == "vram_budget"
    assert "Allow at least" in refused.value.hint


def test_without_a_gpu_it_is_unavailable_and_says_what_to_do(tier: LocalTier) -> None:
    request = ClipRequest(prompt="x", checkpoint="tiny-svd")

    here = tier.availability(request)

    assert not here.available
    assert "GPU" in here.reason
    assert "--device cpu" in here.hint
    assert not here.leaves_machine
    with pytest.raises(TierUnavailable):
        tier.plan(request)


def test_on_the_cpu_when_asked(tier: LocalTier) -> None:
    here = tier.availability(ClipRequest(prompt="x", **TINY))

    assert (here.available, here.reason) == (True, "checkpoint tiny-svd, on the CPU as asked")


def test_status_asks_without_a_request(tier: LocalTier, gpu: None) -> None:
    nothing = tier.availability()
    set_up = LocalTier(models_dir=Path("nowhere"), default_checkpoint="synthetic:svd")

    assert not nothing.available
    assert "models pull svd-xt" in nothing.hint
    assert set_up.availability().reason == "checkpoint synthetic:svd, on NVIDIA Testing 9000"


def test_a_torch_without_cuda_is_no_gpu(
    tier: LocalTier, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "version", lambda _: "2.13.0+cpu")

    here = tier.availability(ClipRequest(prompt="x", checkpoint="tiny-svd"))

    assert not here.available
    assert "built without CUDA" in here.reason


def test_a_gpu_that_is_hidden_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert list_gpus() == []


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("svd-tx", CheckpointUnknown),
        ("svd", CheckpointUnavailable),
        ("somebody/fine-tune", CheckpointUnavailable),
    ],
)
def test_a_checkpoint_that_was_named_is_not_replaced_by_another_tier(
    tier: LocalTier, name: str, error: type[CheckpointUnavailable]
) -> None:
    request = ClipRequest(prompt="x", checkpoint=name)

    for ask in (tier.availability, tier.plan):
        with pytest.raises(error) as refused:
            ask(request)
        assert not refused.value.falls_through
        assert refused.value.exit_status == 3


def test_without_a_name_another_tier_may_serve(tmp_path: Path, gpu: None) -> None:
    tier = LocalTier(models_dir=tmp_path)
    request = ClipRequest(prompt="x")

    assert not tier.availability(request).available
    with pytest.raises(CheckpointUnavailable) as missing:
        tier.plan(request)
    assert missing.value.falls_through


def test_a_default_that_is_broken_stops_all_the_same(tmp_path: Path, gpu: None) -> None:
    (tmp_path / "svd").mkdir()
    tier = LocalTier(models_dir=tmp_path, default_checkpoint="svd")

    with pytest.raises(CheckpointBroken) as broken:
        tier.plan(ClipRequest(prompt="x"))

    assert not broken.value.falls_through


def test_a_damaged_one_stops_before_any_work_and_status_says_so(
    tmp_path: Path, tiny_models: Path, gpu: None
) -> None:
    import shutil

    shutil.copytree(tiny_models / "tiny-svd", tmp_path / "svd")
    (tmp_path / "svd" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    tier = LocalTier(models_dir=tmp_path)

    for ask in (tier.availability, tier.plan):
        with pytest.raises(CheckpointBroken, match="vae has no safetensors weights") as broken:
            ask(ClipRequest(prompt="x"))
        assert not broken.value.falls_through
    here = tier.availability()
    assert not here.available
    assert "vae has no safetensors weights" in here.reason
    assert here.hint == "Run: svd-local models pull svd"


def test_without_a_gpu_a_damaged_one_stands_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "svd-xt").mkdir()
    tier = LocalTier(models_dir=tmp_path)

    here = tier.availability(ClipRequest(prompt="x"))

    assert not here.available
    assert "GPU" in here.reason
    with pytest.raises(CheckpointBroken):
        tier.availability(ClipRequest(prompt="x", checkpoint="svd-xt"))


def test_with_leave_a_missing_checkpoint_is_pulled(
    tmp_path: Path, tiny_models: Path, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    asked: list[tuple[str, str | None]] = []

    def fetch(
        name: str,
        models_dir: Path,
        *,
        token: str | None,
        on_offer: Callable[[Any], None],
        on_progress: Callable[[int, int, str], None],
    ) -> None:
        asked.append((name, token))
        offer = types.SimpleNamespace(
            repo="org/svd", licence="some-terms", licence_url="https://licence.example"
        )
        offer.total_bytes = offer.missing_bytes = 5_000_000
        on_offer(offer)
        on_progress(2_000_000, 5_000_000, "unet.safetensors")
        shutil.copytree(tiny_models / "tiny-svd", models_dir / name)

    monkeypatch.setattr(download, "pull", fetch)
    tier = LocalTier(models_dir=tmp_path, allow_download=True, token="secret")

    heard: list[Progress] = []
    assert tier.availability(ClipRequest(prompt="x")).available
    plan = tier.plan(ClipRequest(prompt="x", checkpoint="svd"), Monitor(heard.append))

    assert asked == [("svd", "secret")]
    assert plan.checkpoint == "svd"
    assert [(p.stage, p.done, p.total) for p in heard] == [("download", 0, 5), ("download", 2, 5)]
    assert "some-terms" in heard[0].note
    assert heard[1].note == "unet.safetensors"


def test_a_pull_for_a_clip_can_be_cancelled(
    tmp_path: Path, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: Any, on_progress: Callable[[int, int, str], None], **__: Any) -> None:
        on_progress(1, 2, "unet.safetensors")

    monkeypatch.setattr(download, "pull", fetch)
    tier = LocalTier(models_dir=tmp_path, allow_download=True)
    with pytest.raises(Cancelled):
        tier.plan(ClipRequest(prompt="x", checkpoint="svd"), Monitor(cancelled=lambda: True))


@pytest.mark.parametrize(("named", "falls_through"), [("svd-xt-1.1", False), (None, True)])
def test_a_gated_one_says_so(
    tmp_path: Path,
    gpu: None,
    monkeypatch: pytest.MonkeyPatch,
    named: str | None,
    falls_through: bool,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise CheckpointGated("gated")

    monkeypatch.setattr(download, "pull", refuse)
    tier = LocalTier(models_dir=tmp_path, allow_download=True)

    with pytest.raises(CheckpointGated) as gated:
        tier.plan(ClipRequest(prompt="x", checkpoint=named))

    assert gated.value.falls_through == falls_through


def test_an_unknown_name_is_never_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "pull", lambda *_, **__: pytest.fail("asked the hub"))
    tier = LocalTier(models_dir=tmp_path, allow_download=True)

    with pytest.raises(CheckpointUnknown):
        tier.plan(ClipRequest(prompt="x", checkpoint="svd-tx", device="cpu"))


def test_cancelled_between_steps_the_next_clip_is_the_same(tier: LocalTier) -> None:
    request = ClipRequest(prompt="x", seed=1, **{**TINY, "steps": 3})
    before = frames_of(tier, job_of(tier, request))
    seen: list[Progress] = []

    def enough() -> bool:
        return any(step.stage == "denoise" and step.done == 1 for step in seen)

    with pytest.raises(Cancelled):
        tier.generate(job_of(tier, request, progress=seen.append, cancelled=enough))

    assert [(s.stage, s.done, s.total) for s in seen][-1] == ("denoise", 1, 3)
    assert np.array_equal(frames_of(tier, job_of(tier, request)), before)


def test_a_surprise_is_a_failure_with_its_cause(
    tier: LocalTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("our bug")

    monkeypatch.setattr("svd_local.engine.reference.render", surprise)

    with pytest.raises(TierFailed, match="our bug") as failed:
        tier.generate(job_of(tier, ClipRequest(prompt="x", engine="reference", **TINY)))

    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    assert not failed.value.falls_through


def test_out_of_memory_keeps_its_type(tier: LocalTier, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def run_out(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr("svd_local.engine.reference.render", run_out)

    with pytest.raises(OutOfMemory) as failed:
        tier.generate(job_of(tier, ClipRequest(prompt="x", engine="reference", **TINY)))

    assert failed.value.falls_through


def test_the_seed_decides_the_clip(tier: LocalTier) -> None:
    request = ClipRequest(prompt="x", **TINY)
    job = job_of(tier, request)
    other = dataclasses.replace(job, plan=job.plan.seeded(8))

    assert not np.array_equal(frames_of(tier, job), frames_of(tier, other))
