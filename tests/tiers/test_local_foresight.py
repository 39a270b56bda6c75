"""What the local tier tells of a clip without making it."""

from __future__ import annotations

from pathlib import Path

import pytest

from svd_local.errors import InvalidRequest, OutOfMemory, TierUnavailable
from svd_local.request import ClipRequest
from svd_local.tiers import gpus, local
from svd_local.tiers.gpus import Gpu
from svd_local.tiers.local import LocalTier

TINY = ClipRequest(prompt="a", checkpoint="tiny-svd")


@pytest.fixture
def tier(tmp_path: Path) -> LocalTier:
    return LocalTier(models_dir=tmp_path)


def _with_gpu(monkeypatch: pytest.MonkeyPatch, free: int, total: int) -> None:
    for module in (gpus, local):
        monkeypatch.setattr(module, "list_gpus", lambda: [Gpu("Testing", total, free, "999.1")])
    monkeypatch.setattr(gpus, "version", lambda _: "2.13.0+cu130")


def test_the_plan_follows_the_free_memory(
    tier: LocalTier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _with_gpu(monkeypatch, 23 * 2**30, 24 * 2**30)
    roomy = tier.foresee_memory(TINY)
    assert roomy.plan == "resident"
    _with_gpu(monkeypatch, 2**20, 24 * 2**30)
    tight = tier.foresee_memory(TINY)
    assert tight.plan != "resident"
    assert (tight.predicted_peak_bytes or 0) < (roomy.predicted_peak_bytes or 0)
    assert list(tmp_path.iterdir()) == []
    assert tier.checkpoint(TINY).name == "tiny-svd"


def test_what_no_plan_keeps_to(tier: LocalTier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "list_gpus", list)
    with pytest.raises(TierUnavailable):
        tier.foresee_memory(TINY)
    _with_gpu(monkeypatch, 2**20, 2**20)
    with pytest.raises(OutOfMemory):
        tier.foresee_memory(TINY)
    small = TINY.model_copy(update={"vram_budget": 2**20, "device": "cpu"})
    with pytest.raises(InvalidRequest):
        tier.foresee_memory(small)
