"""The comparison passes what is right and fails what is not."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from benchmarks.setting import Setting


def test_in_fp32_the_engines_agree(setting: Setting) -> None:
    from benchmarks.correctness import compare

    result = compare(setting, steps=1)
    assert result["benchmark"] == "correctness"
    assert 0 < result["step"]["distance"] <= 5e-6
    assert 0 < result["decode"]["distance"] <= 5e-6
    assert result["clip"]["fused_and_reference"]["share_within_1"] >= 0.999
    assert result["passed"] is True


def test_in_half_precision_both_are_measured_against_fp32(setting: Setting) -> None:
    from benchmarks.correctness import compare
    from svd_local.engine.loading import BF16

    result = compare(dataclasses.replace(setting, precision=BF16), steps=1)
    for part in ("step", "decode"):
        assert 1e-4 < result[part]["reference_error"] < 0.1
        assert 1e-4 < result[part]["fused_error"] < 0.1
        ratio = result[part]["fused_error"] / result[part]["reference_error"]
        assert result[part]["ratio"] == pytest.approx(ratio, abs=1e-4)
        assert result[part]["passed"] is (ratio <= 1.05)
    assert {"fused_and_fp32", "reference_and_fp32"} <= set(result["clip"])


def test_nothing_that_is_not_finite_passes() -> None:
    import torch

    from benchmarks.correctness import distance

    one = torch.ones(3)
    assert distance([one], [one]) == 0
    assert distance([one * 1.5], [one]) == pytest.approx(0.5)
    assert distance([one * float("nan")], [one]) == float("inf")


def test_a_clip_two_levels_off_fails_unless_the_reference_is_as_far_from_fp32() -> None:
    from benchmarks.correctness import clip_result

    clip = np.full((2, 4, 4, 3), 100, np.uint8)
    assert clip_result(clip + 1, clip, None)["passed"]
    assert not clip_result(clip + 2, clip, None)["passed"]
    assert not clip_result(clip + 2, clip, clip)["passed"]
    assert clip_result(clip + 2, clip, clip + 1)["passed"]
    dark = np.zeros_like(clip)
    assert clip_result(dark, clip, None)["fused_and_reference"]["most"] == 100
