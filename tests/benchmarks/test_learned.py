"""What was measured a moment ago on this GPU counts as if it were in the package; anything else does not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import learned
from benchmarks.common import arguments_for
from svd_local.engine.fused import attention
from svd_local.engine.fused.kernels import choice

ROW = {"dtype": "torch.float16", "batch": 50, "heads": 5, "tokens": 9216, "size": 64, "backend": "cudnn"}  # fmt: skip
WON = {"320": {"twin_ms": 2.0, "kernel_ms": 1.0, "config": {"rows": 4}, "wins": True}}


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(choice, "_learned", {})
    monkeypatch.setattr(attention, "_known", {})
    attention._rows_of.cache_clear()
    yield
    attention._rows_of.cache_clear()


def _arguments(folder: Path, gpu: str, **twins: Any) -> argparse.Namespace:
    attended = {"gpu": gpu, "rows": [ROW]}
    trials = [{"kernel": "geglu", "agrees": True}]
    won = {"gpu": gpu, "refused": None, "versions": {}, "widths": {"geglu": WON}, "trials": trials}
    (folder / "attention.json").write_text(json.dumps(attended))
    (folder / "twins_25f.json").write_text(json.dumps({**won, **twins}))
    options = ["--attention", str(folder / "attention.json"), "--twins", str(folder / "twins_25f.json")]  # fmt: skip
    return arguments_for("").parse_args(["--device", "cuda", *options])


def _on(monkeypatch: pytest.MonkeyPatch, gpu: str | None) -> None:
    monkeypatch.setattr(learned, "gpu_name", lambda _: gpu)


def test_results_of_this_gpu_are_gone_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _on(monkeypatch, "X")
    learned.learn(_arguments(tmp_path, "X"))
    assert attention.is_known("X")
    kernels = choice.choose("auto", "X", 2)
    assert kernels.to_json() == {"geglu": [320]}
    assert kernels.config("geglu", 320) == {"rows": 4}
    assert choice.choose("none", "X", 2) == choice.NONE
    assert choice.choose("auto", "Y", 2) == choice.NONE


@pytest.mark.parametrize("gpu", ["Y", None])
def test_results_of_another_change_nothing(
    gpu: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _on(monkeypatch, gpu)
    learned.learn(_arguments(tmp_path, "X"))
    assert not attention.is_known("X")
    assert choice.choose("auto", "X", 2) == choice.NONE


def test_where_no_kernel_ran_the_engine_is_measured_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _on(monkeypatch, "X")
    learned.learn(_arguments(tmp_path, "X", refused="Triton is not installed"))
    assert attention.is_known("X")
    assert choice.choose("auto", "X", 2) == choice.NONE
    assert "no kernel ran there" in capsys.readouterr().err


def test_another_process_is_told_the_same(tmp_path: Path) -> None:
    arguments = _arguments(tmp_path, "X")
    again = arguments_for("").parse_args(learned.given(arguments))
    assert (again.attention, again.twins) == (arguments.attention, arguments.twins)
    assert learned.given(arguments_for("").parse_args([])) == []
