"""A kernel that could not run on a GPU, or only badly, is found without one; in truth where Triton is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compiled
from benchmarks.compiled import Call, wrong_with

FINE = {"shared_bytes": 196608, "spilled_bytes": 0, "narrow_loads": 0, "narrow_stores": 0}


@pytest.mark.parametrize(
    ("program", "told", "grid", "capability", "why"),
    [
        ("apply", {}, (2**31 - 1,), 90, []),
        ("apply", {}, (50, 65536), 90, ["is launched on a grid of (50, 65536)"]),
        ("once", {}, (1,), 89, ["takes 196608 bytes of shared memory, a block has 101376"]),
        ("once", {"narrow_loads": 3}, (1,), 90, []),
        ("once", {"narrow_stores": 3}, (1,), 90, ["moves less than 4 bytes at a time in 3 places"]),
        ("apply", {"narrow_loads": 3}, (1,), 90, ["moves less than 4 bytes at a time in 3 places"]),
        ("apply", {"spilled_bytes": 16}, (1,), 90, []),
        ("apply", {"spilled_bytes": 24}, (1,), 90, ["spills 24 bytes"]),
    ],
)
def test_what_is_wrong_is_told(
    program: str, told: Any, grid: tuple[int, ...], capability: int, why: list[str]
) -> None:
    assert wrong_with(program, FINE | told, grid, capability) == why


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ld.global.b16 { %rs1 }, [ %rd1 + 0 ];", "narrow_loads"),
        ("@%p1 ld.global.L1::evict_last.u8 { %rs1 }, [ %rd1 + 0 ];", "narrow_loads"),
        ("st.global.b16 [ %rd1 + 0 ], { %rs1 };", "narrow_stores"),
        ("@%p1 st.global.v4.b32 [ %rd1 + 0 ], { %r1, %r2, %r3, %r4 };", "wide_accesses"),
        ("cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, %r2;", "wide_copies"),
        ("ld.global.b32 { %r1 }, [ %rd1 + 0 ];", None),
    ],
)
def test_instructions_are_told_apart(line: str, found: str | None) -> None:
    named = {name for name, pattern in compiled._INSTRUCTIONS.items() if re.search(pattern, line)}
    assert named == ({found} if found else set())


def test_the_same_program_is_one_row_and_one_that_does_not_compile_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def programs(_: int, work: Any) -> Any:
        call, (config, *_dtype) = work.func.__self__, work.args
        if call.kernel == "geglu" and config["rows"] == 2:
            raise ValueError("no such layout\nand much more")
        return [{"hash": "one", "program": "it", **FINE, "wrong": []}]

    calls = [Call("geglu", 320, (), print), Call("geglu", 640, (), print), Call("group-norm", 320, (), print)]  # fmt: skip
    monkeypatch.setattr(compiled, "calls_of", lambda _: calls)
    monkeypatch.setattr(compiled, "configurations", lambda _: ({"rows": 1}, {"rows": 2}))
    monkeypatch.setattr(compiled, "programs", programs)
    written = tmp_path / "compiled.json"
    monkeypatch.setattr(sys, "argv", ["compiled", "--json", str(written)])
    assert compiled.main() == 1
    assert "geglu {'rows': 2} None: does not compile: no such layout" in capsys.readouterr().err
    result = json.loads(written.read_text())
    assert result["passed"] is False
    told = [
        (row["kernel"], row["widths"], row["configs"], row["wrong"]) for row in result["kernels"]
    ]
    assert told == [
        ("geglu", [320, 640], [{"rows": 1}], []),
        ("geglu", [320, 640], [{"rows": 2}], ["does not compile: no such layout"]),
        ("group-norm", [320], [{"rows": 1}, {"rows": 2}], []),
    ]
    monkeypatch.setattr(sys, "argv", ["compiled", "--kernel", "group-norm"])
    assert compiled.main() == 0


@pytest.mark.long
def test_every_kernel_compiles_for_hopper_as_a_clip_calls_it() -> None:
    if not find_spec("triton"):
        pytest.skip("Triton is not installed")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.compiled", "--frames", "14"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(ended.stdout)["kernels"]
    assert {row["kernel"] for row in rows} == set(compiled.KERNELS)
    assert all(row["hopper_products"] for row in rows if row["kernel"] == "geglu-product")
    assert all(row["older_products"] for row in rows if row["kernel"] == "temporal-attention")
