"""The measurement of the remote tiers: every part is there, and it adds up."""

from __future__ import annotations

import pytest

from benchmarks import remote


def test_every_service_is_measured_and_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from svd_local.keyframe import fit, picture

    originals = (fit.fit, picture.open_picture)
    monkeypatch.setattr(remote, "SIZE", (256, 144))
    monkeypatch.setattr(remote, "FRAMES", 14)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = remote.measure(1)
    assert (fit.fit, picture.open_picture) == originals
    assert set(result["services"]) == {"huggingface", "webui, pictures", "webui, frames"}
    for one in result["services"].values():
        parts = ("bare_s", "proving_s", "scaling_s", "added_s")
        total = sum(one[part]["median"] for part in parts)
        assert total == pytest.approx(one["tier_s"]["median"], abs=1e-3)
        assert one["proving_s"]["median"] > 0
        assert one["requests"] >= 1
