"""The tiny checkpoint in Stability's original layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.original_layout import companions, originals, tensors_of, write


@pytest.fixture(scope="session")
def tiny_tensors(tiny_models: Path) -> dict[str, Any]:
    """Its weights under their original names, with what else such a file holds."""
    found = originals(tensors_of(tiny_models / "tiny-svd"))
    return found | companions(found)


@pytest.fixture(scope="session")
def tiny_file(tiny_tensors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``svd_xt.safetensors``, which nobody may change."""
    return write(tiny_tensors, tmp_path_factory.mktemp("single") / "svd_xt.safetensors")
