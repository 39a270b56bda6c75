"""Kernels are timed at the engine's own shapes, and the table has only those that won."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchmarks.setting import Setting


def _timed(kernel: str, width: int, twin: float, count: int = 1, part: str = "step", **ms: float) -> Any:  # fmt: skip
    configs = [{"config": {"rows": int(name[1:])}, "ms": {"median": took} if took else None} for name, took in ms.items()]  # fmt: skip
    return {"kernel": kernel, "width": width, "part": part, "count": count, "twin_ms": {"median": twin}, "configs": configs}  # fmt: skip


def test_without_triton_the_twins_alone_are_timed(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import twins
    from svd_local.engine.loading import FP16

    monkeypatch.setattr(twins, "find_spec", lambda _: None)
    assert "half precision" in str(twins.why_not(setting))
    result = twins.measure(dataclasses.replace(setting, precision=FP16), for_s=0)
    assert result["refused"] == "Triton is not installed"
    assert result["passed"] is False
    assert {one["kernel"] for one in result["trials"]} == set(twins.KERNELS)
    assert all(one["twin_ms"]["median"] > 0 and one["configs"] == [] for one in result["trials"])
    assert not any(one["wins"] for by in result["widths"].values() for one in by.values())
    assert json.loads(json.dumps(result)) == result


def test_shapes_add_up_by_how_often_they_occur() -> None:
    from benchmarks.twins import saved, summed

    widths = summed(
        [
            _timed("group-norm", 320, 1.0, count=10, c1=0.5, c2=0.2),
            _timed("group-norm", 320, 4.0, count=1, c1=1.0, c2=9.0),
            _timed("group-norm", 128, 50.0, count=1, part="decode", c1=25.0, c2=None),
            _timed("geglu", 320, 1.0, count=2, c1=1.0),
        ]
    )
    assert widths["group-norm"]["320"] == {"twin_ms": 14.0, "kernel_ms": 6.0, "config": {"rows": 1}, "wins": True}  # fmt: skip
    assert widths["group-norm"]["128"]["twin_ms"] == 2.0
    assert widths["geglu"]["320"]["wins"] is False
    assert saved(widths) == {"group-norm": 9.0, "geglu": 0}


def test_a_configuration_that_was_refused_somewhere_is_not_taken() -> None:
    from benchmarks.twins import summed

    widths = summed(
        [
            _timed("geglu-product", 320, 1.0, c1=0.1, c2=0.6),
            _timed("geglu-product", 320, 1.0, c1=0.0, c2=0.6),
        ]
    )
    assert widths["geglu-product"]["320"]["config"] == {"rows": 2}


def _result(gpu: str | None = "X", refused: str | None = None, **widths: Any) -> Any:
    named = {name.replace("_", "-"): by for name, by in widths.items()}
    trials = [{"kernel": name, "agrees": True} for name in named]
    return {"gpu": gpu, "refused": refused, "versions": {"torch": "2"}, "widths": named, "trials": trials}  # fmt: skip


def _won(kernel_ms: float, twin_ms: float = 2.0) -> dict[str, Any]:
    return {"320": {"twin_ms": twin_ms, "kernel_ms": kernel_ms, "config": {"rows": 4}, "wins": kernel_ms < twin_ms}}  # fmt: skip


def test_the_table_has_what_won_in_every_result() -> None:
    from benchmarks.kernel_table import entry_of

    gpu, entry = entry_of(
        {
            "long": _result(group_norm=_won(1.0), geglu=_won(1.0), temporal_attention=_won(0.5)),
            "short": _result(group_norm=_won(0.5), geglu=_won(3.0), temporal_attention=_won(1.0)),
        }
    )
    assert gpu == "X"
    assert entry["from"] == ["long", "short"]
    assert entry["kernels"] == {
        "group-norm": {"320": {"config": {"rows": 4}, "times_faster": 2.0}},
        "temporal-attention": {"320": {"config": {"rows": 4}, "times_faster": 2.0}},
    }


@pytest.mark.parametrize(("product", "winner"), [(1.0, "geglu-product"), (1.9, "geglu")])
def test_of_the_two_that_make_geglu_the_faster_is_taken(product: float, winner: str) -> None:
    from benchmarks.kernel_table import entry_of

    _, entry = entry_of({"one": _result(geglu=_won(1.5), geglu_product=_won(product))})
    assert list(entry["kernels"]) == [winner]


@pytest.mark.parametrize(
    ("results", "why"),
    [
        ({"a": _result(gpu=None)}, "of one GPU"),
        ({"a": _result(gpu="X"), "b": _result(gpu="Y")}, "of one GPU"),
        ({"a": _result(refused="no Triton")}, "a: no kernel ran there .no Triton."),
    ],
)
def test_what_proves_nothing_enters_nothing(results: Any, why: str) -> None:
    from benchmarks.kernel_table import entry_of

    with pytest.raises(ValueError, match=why):
        entry_of(results)


def test_a_kernel_that_was_wrong_once_costs_the_others_nothing(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import twins
    from benchmarks.kernel_table import entry_of

    one = _result(geglu=_won(1.0), group_norm=_won(1.0))
    one["trials"][0]["agrees"] = False
    _, entry = entry_of({"one": one, "other": _result(geglu=_won(1.0), group_norm=_won(1.0))})
    assert list(entry["kernels"]) == ["group-norm"]
    assert entry["wrong"] == ["geglu"]

    # Of a configuration that fails its proof none is timed; the other ones are.
    tried: list[Any] = []

    def proofs(*_: Any) -> Any:
        return [{"kernel": "geglu", "config": {"rows": 2}, "passed": False}]

    def timing(trial: Any, part: str, count: int, configs: Any, *_: Any) -> Any:
        tried.append((trial.kernel, configs))
        return {**_timed(trial.kernel, trial.width, 1.0, part=part), "agrees": True}

    monkeypatch.setattr(twins, "why_not", lambda _: None)
    monkeypatch.setattr(twins, "configurations", lambda _: ({"rows": 1}, {"rows": 2}))
    monkeypatch.setattr(twins, "proofs_of", proofs)
    monkeypatch.setattr(twins, "time_trial", timing)
    monkeypatch.setattr(twins.Setting, "describe", lambda *_: {})
    result = twins.measure(dataclasses.replace(setting, device="cuda"), for_s=0)
    assert result["passed"] is False
    assert {kernel: len(configs) for kernel, configs in tried} == {
        kernel: 1 if kernel == "geglu" else 2 for kernel in twins.KERNELS
    }


def test_other_gpus_keep_their_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import kernel_table

    known = {"Y": {"kernels": {}}, "X": {"kernels": {"geglu": {}}}}
    monkeypatch.setattr(kernel_table, "table", lambda: known)
    given, written = tmp_path / "twins.json", tmp_path / "table.json"
    given.write_text(json.dumps(_result(geglu=_won(1.0))))
    monkeypatch.setattr(sys, "argv", ["kernel_table", str(given), "--table", str(written)])
    kernel_table.main()
    table = json.loads(written.read_text())
    assert list(table) == ["X", "Y"]
    assert table["X"]["from"] == ["twins.json"]
    assert table["Y"] == known["Y"]
