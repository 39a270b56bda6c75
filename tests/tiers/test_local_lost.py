"""A GPU that answers no more, told from a clip that failed; a session that makes no clip stands in."""

from __future__ import annotations

import pytest
from PIL import Image

from svd_local.errors import DeviceLost, TierFailed, TierUnavailable
from svd_local.keyframe.types import Keyframe
from svd_local.ladder import climb
from svd_local.request import ClipRequest
from svd_local.tiers import hold, local
from svd_local.tiers.base import Job, Monitor
from svd_local.tiers.local import LocalTier

ON_GPU = ClipRequest(prompt="x", seed=1)
ON_CPU = ClipRequest(prompt="x", seed=1, device="cpu")


class BrokenSession:
    """Loaded, and failing at every clip."""

    made = 0
    closed = 0

    def __init__(self, checkpoint, device, **_):
        self.checkpoint, self.device = checkpoint, device

    def make(self, *_, **__):
        BrokenSession.made += 1
        raise RuntimeError("CUDA error: device-side assert triggered")
        yield  # a stream, as the session's is

    def close(self):
        BrokenSession.closed += 1


@pytest.fixture
def machine(monkeypatch):
    """What of the machine a test changes: ``missing`` GPU, ``lost`` context."""
    state = {"missing": None, "lost": None}
    BrokenSession.made = BrokenSession.closed = 0
    monkeypatch.setattr(local, "Session", BrokenSession)
    for module in (local, hold):
        monkeypatch.setattr(module, "no_cuda", lambda: state["missing"])
    monkeypatch.setattr(hold, "why_lost", lambda: state["lost"])
    return state


@pytest.fixture
def tier(machine, tmp_path):
    return LocalTier(models_dir=tmp_path, default_checkpoint="synthetic:svd")


def generate(tier, request=ON_GPU):
    plan = tier.plan(request)
    picture = Image.new("RGB", plan.size)
    return tier.generate(Job(request, plan, (Keyframe(picture, "0" * 64, "picture"),), Monitor()))


def test_an_error_that_leaves_the_gpu_whole_is_a_failed_clip(tier):
    with pytest.raises(TierFailed) as caught:
        generate(tier)

    assert caught.type is TierFailed
    with pytest.raises(TierFailed):
        generate(tier)
    assert BrokenSession.made == 2


def test_a_lost_gpu_says_so_and_is_not_asked_again(tier, machine):
    machine["lost"] = "CUDA error: device-side assert triggered"
    with pytest.raises(DeviceLost, match="answers this process no more: CUDA error") as caught:
        generate(tier)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert not caught.value.falls_through

    with pytest.raises(DeviceLost, match="answers this process no more: CUDA error"):
        tier.plan(ON_GPU)
    assert BrokenSession.made == 1

    tier.close()
    assert BrokenSession.closed == 0  # what is on a lost GPU cannot be taken off it


def test_what_runs_on_the_cpu_is_no_matter_of_the_gpu(tier, machine):
    machine["lost"] = "not to be asked"

    with pytest.raises(TierFailed) as caught:
        generate(tier, ON_CPU)

    assert caught.type is TierFailed


def test_a_gpu_that_went_away_is_not_one_that_never_was(tier, machine):
    machine["missing"] = "no NVIDIA GPU was found"
    with pytest.raises(TierUnavailable):
        tier.plan(ON_GPU)

    machine["missing"] = None
    with pytest.raises(TierFailed):
        generate(tier)
    machine["missing"] = "no NVIDIA GPU was found"

    with pytest.raises(DeviceLost, match="no NVIDIA GPU was found"):
        climb([tier], lambda tier, _: tier.plan(ON_GPU))
