"""Attention kernels are measured shape by shape, and only a GPU's results come into the package."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchmarks.setting import Setting


def test_every_shape_of_both_lengths_has_a_row(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import attention
    from benchmarks.shapes import Attention, Product

    def shapes_of(_: object, frames: int, *__: int) -> Any:
        spatial = Attention(2 * frames, 2, 16, 8, (768, 8, 48, 1))
        temporal = Attention(16, 2, frames, 8, (48, 8, 768, 1))
        step = Counter({spatial: 3, temporal: 2, Product(1, 2, 3, True): 1})
        return {"step": step, "decode": Counter({Attention(1, 1, 64, 32, (2048, 32, 32, 1)): 1})}

    monkeypatch.setattr(attention, "shapes_of", shapes_of)
    result = attention.measure(setting, [3], 0.001)

    rows = result["rows"]
    assert [(row["batch"], row["tokens"]) for row in rows] == [
        *((4, 16), (16, 2), (1, 64), (6, 16), (16, 3))
    ]
    for row in rows:
        assert row["backend"] in ("torch", "flash", "math")
        assert {"torch", "flash", "math"} <= set(row["ms"])
    json.dumps(result)


def test_a_gpus_rows_take_the_place_of_its_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import attention_table

    row: dict[str, Any] = {
        "dtype": "torch.float16", "batch": 50, "heads": 5, "tokens": 9216, "size": 64,
        "backend": "cudnn", "ms": {"cudnn": 1.0},
    }  # fmt: skip
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"B": {"rows": []}, "A": {"rows": [{**row, "backend": "flash"}]}}))
    result = tmp_path / "attention.json"

    def put(content: dict[str, Any]) -> int:
        result.write_text(json.dumps(content))
        monkeypatch.setattr(sys, "argv", ["x", str(result), "--table", str(table)])
        return attention_table.main()

    measured = {"benchmark": "attention", "gpu": "A", "versions": {}, "rows": [row]}
    assert put(measured) == 0
    assert json.loads(table.read_text()) == {
        "A": {"versions": {}, "rows": [row]},
        "B": {"rows": []},
    }
    before = table.read_text()
    with pytest.raises(SystemExit, match="on a GPU"):
        put({**measured, "gpu": None})
    with pytest.raises(ValueError, match="no attention backend"):
        put({**measured, "rows": [{**row, "backend": "x"}]})
    assert table.read_text() == before
