"""Bad arguments end a measurement before it begins, in one line that says what to do."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import options

REFUSED = [
    ("clip", "--width 100", "96 is near|104 is near"),
    ("clip", "--height 0", "whole number from 1"),
    ("clip", "--frames 0", "whole number from 1"),
    ("clip", "--steps x", "whole number from 1"),
    ("clip", "--runs 0", "whole number from 1"),
    ("clip", "--budget banana", "no amount of memory"),
    ("clip", "--budget 0", "no amount of memory"),
    ("clip", "--budget 1 --engine compiled", "fused and reference"),
    ("clip", "--cache-depth 2", "is for --speed cached"),
    ("clip", "--speed cached --engine reference", "is the fused engine's"),
    ("clip", "--speed distilled --distilled nosuch.safetensors", "there is no file"),
    ("clip", "--distilled {file}", "is for --speed distilled"),
    ("clip", "--speed distilled --schedule align-your-steps", "a schedule of its own"),
    ("clip", "--schedule align-your-steps --steps 5", "has ten steps"),
    ("clip", "--json {folder}", "is a folder"),
    ("clip", "--json {file}/x.json", "nothing can be written"),
    ("flops", "--frames 0", "whole number from 1"),
    ("memory_plan", "--frames 14,x", "'x' is not a whole number"),
    ("memory", "--caps abc", "'abc' is no amount of memory"),
    ("memory", "--caps 4,", "'' is no amount of memory"),
    ("memory", "--seconds-each -1", "seconds above zero"),
    ("correctness", "--steps 0", "whole number from 1"),
    ("modes", "--runs -1", "whole number from 1"),
    ("ceilings", "--for-s nan", "seconds above zero"),
    ("ablation", "--pairs 0", "whole number from 1"),
]


@pytest.mark.parametrize(("module", "given", "said"), REFUSED)
def test_a_bad_argument_is_refused_before_any_work(
    module: str,
    given: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    argv = given.format(folder=tmp_path, file=file).split()
    monkeypatch.setattr(sys, "argv", [module, *argv])
    main: Any = importlib.import_module(f"benchmarks.{module}").main
    with pytest.raises(SystemExit) as ended:
        options.run(main)
    assert ended.value.code == 2
    assert any(part in capsys.readouterr().err for part in said.split("|"))


def test_an_error_of_ours_is_one_line_with_its_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import clip

    monkeypatch.setenv("SVD_LOCAL_MODELS_DIR", str(tmp_path))
    for argv in (
        ["--checkpoint", "nosuch"],
        ["--speed", "distilled"],
        ["--speed", "cached", "--cache-depth", "99"],
    ):
        monkeypatch.setattr(sys, "argv", ["clip", *argv])
        with pytest.raises(SystemExit) as ended:
            options.run(clip.main)
        said = ended.value.code
        assert isinstance(said, str)
        assert "checkpoint" in said
        assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "amount"), [("4", 4.0), ("4GiB", 4.0), ("0.5 gib", 0.5), ("512MiB", 0.5)]
)
def test_amounts_are_gib(text: str, amount: float) -> None:
    assert options.gib(text) == amount


def test_several_values_are_each_looked_at() -> None:
    assert options.several(options.count)("14, 25") == [14, 25]
    with pytest.raises(argparse.ArgumentTypeError):
        options.several(options.count)("14,0")


def test_a_result_may_go_into_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert options.target(str(tmp_path / "a" / "b.json")) == tmp_path / "a" / "b.json"
