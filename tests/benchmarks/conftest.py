"""One small setting for all measurements: the tiny checkpoint, two frames of 128x64 on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from benchmarks.setting import Setting


@pytest.fixture(scope="session")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    from benchmarks.setting import Setting
    from svd_local.engine.checkpoints import resolve
    from svd_local.engine.loading import FP32

    models = tmp_path_factory.mktemp("models")
    return Setting(resolve("tiny-svd", models), "cpu", FP32, width=128, height=64, frames=2)
