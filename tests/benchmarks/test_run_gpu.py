"""The script does each step once, in order, within its limits, and can be stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import run_gpu
from benchmarks.steps import Step, scale_for, steps

SCRIPT = Path(run_gpu.__file__).with_name("run_gpu.sh")
NAMES = [step.name for step in steps(scale_for("cuda", None))]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Modules of the steps that ran; nothing is run in truth."""
    modules: list[str] = []

    def pretend(command: list[str], log: Path, limit_s: float) -> int | str:
        modules.append(command[2].removeprefix("benchmarks."))
        log.write_text("some words\nits last word\n")
        if modules[-1] == "kernels":
            return 1
        Path(command[-1]).write_text(json.dumps({"gpu_s": 7.5}))
        return 0

    monkeypatch.setattr(run_gpu, "run_limited", pretend)
    return modules


def _run(monkeypatch: pytest.MonkeyPatch, *options: object) -> int:
    monkeypatch.setattr(sys, "argv", ["run_gpu", *map(str, options)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return run_gpu.main()


def test_no_step_is_repeated_whose_result_exists(
    tmp_path: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done, results = tmp_path / "done", tmp_path / "results"
    done.mkdir()
    (done / "ceilings.json").write_text("{}")
    chosen = ["--only", "ceilings,correctness_25f,clip_fused_25f", "--minutes", 90]
    assert _run(monkeypatch, "--results", results, "--done", done, *chosen) == 0
    assert ran == ["correctness", "clip"]
    assert sorted(path.name for path in results.iterdir()) == [
        "clip_fused_25f.json",
        "correctness_25f.json",
    ]
    assert _run(monkeypatch, "--results", results, "--done", done, *chosen) == 0
    assert len(ran) == 2
    said = capsys.readouterr().out
    assert "gpu_s 7.5" in said
    assert "3 of 3 results are there" in said


def test_a_failed_step_is_told_and_passed_over(
    tmp_path: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--only", "kernels_fused_25f,clip_reference_14f", "--minutes", 90]
    assert _run(monkeypatch, "--results", tmp_path, *options) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["clip_reference_14f.json"]
    said = capsys.readouterr().out
    assert "its last word" in said
    assert "failed: kernels_fused_25f" in said


def test_a_run_writes_no_more_files_than_it_may(
    tmp_path: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for expected in (3, 6):
        assert _run(monkeypatch, "--results", tmp_path, "--minutes", 90, "--files", 3) in (0, 1)
        assert len(list(tmp_path.iterdir())) == expected
    said = capsys.readouterr().out
    assert f"as many results as one run may write; left for the next run: {NAMES[3]}" in said


def test_no_step_begins_that_would_not_end(
    tmp_path: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(monkeypatch, "--results", tmp_path, "--minutes", 0.5) == 0
    assert ran == []
    assert "too few for ceilings" in capsys.readouterr().out


def test_a_shorter_step_fills_the_time_unless_it_goes_by_one_that_is_still_to_come(
    tmp_path: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = [
        "--only",
        "twins_25f,clip_fused_25f,clip_fused_25f_plain,clip_fused_14f,correctness_14f",
    ]
    assert _run(monkeypatch, "--results", tmp_path, "--minutes", 1.5, *chosen) == 0
    assert sorted(path.stem for path in tmp_path.iterdir()) == [
        "clip_fused_25f_plain",
        "correctness_14f",
    ]
    said = capsys.readouterr().out
    assert (
        "too little time; left for the next run: twins_25f, clip_fused_25f, clip_fused_14f" in said
    )


def test_a_rehearsal_needs_a_folder_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_gpu.parse(["--device", "cpu"])
    assert "--results" in capsys.readouterr().err


def test_what_is_not_installed_is_told_before_any_work(
    tmp_path: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run_gpu, "find_spec", lambda name: None if name == "triton" else object())
    chosen = ["--results", tmp_path, "--only", "ceilings", "--minutes", 90]
    assert _run(monkeypatch, *chosen) == 0
    assert "triton is not installed: no kernel of our own runs" in capsys.readouterr().out
    lacking = ("diffusers", "imageio_ffmpeg")
    monkeypatch.setattr(run_gpu, "find_spec", lambda name: None if name in lacking else object())
    assert _run(monkeypatch, *chosen) == 2
    assert ran == ["ceilings"]
    assert "not installed: diffusers, imageio_ffmpeg;" in capsys.readouterr().err


def test_the_order_is_that_of_importance() -> None:
    kinds = [name.partition("_")[0] for name in NAMES]
    assert kinds[:6] == ["ceilings", "attention", "correctness", "clip", "clip", "twins"]
    assert len(set(NAMES)) == len(NAMES)
    first = {kind: kinds.index(kind) for kind in kinds}
    assert first["twins"] < first["memory"] < first["modes"] < first["ablation"]
    # A machine that is given back between two calls keeps no cache of compiled code.
    cold = NAMES.index("clip_fused-compiled_25f")
    assert NAMES[cold + 1] == "clip_fused-compiled_25f_warm"


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_step_is_a_command_that_its_module_takes(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    class Parsed(Exception):
        pass

    def parsed(*_: Any, **__: Any) -> Any:
        raise Parsed

    for step in steps(scale_for(device, None)):
        module: Any = importlib.import_module(f"benchmarks.{step.module}")
        work = "compare" if step.module == "correctness" else "measure"
        monkeypatch.setattr(module, work, parsed)
        if hasattr(module, "Setting"):
            monkeypatch.setattr(module.Setting, "of", lambda _: None, raising=False)
        monkeypatch.setattr(sys, "argv", [step.module, *step.options, "--json", "x.json"])
        with pytest.raises(Parsed):
            module.main()


def test_a_step_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    marker = tmp_path / "child"
    program = (
        "import pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(marker)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    ended = run_gpu.run_limited([sys.executable, "-c", program], tmp_path / "log", 2.0)
    assert ended == "out of time"
    child = int(marker.read_text())
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(child)


def test_the_script_resumes_and_stops(tmp_path: Path) -> None:
    """In truth: stopped in its first step it leaves nothing, run to its end a result, run again nothing."""
    results = tmp_path / "results"
    command = [
        str(SCRIPT), "--device", "cpu", "--results", str(results), "--only", "correctness_2f",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "begins" in line:
                break
        time.sleep(0.3)
        process.terminate()
        assert "stopped by SIGTERM" in process.stdout.read()
    assert process.returncode == 130
    assert not results.exists()

    first = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "correctness_2f: done" in first.stdout
    written = results / "correctness_2f.json"
    assert json.loads(written.read_text())["passed"] is True
    stamp = written.stat().st_mtime_ns
    second = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "1 of 1 results are there" in second.stdout
    assert written.stat().st_mtime_ns == stamp
    assert list(results.iterdir()) == [written]


def _alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_what_a_step_goes_by_comes_before_it_and_is_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = list(steps(scale_for("cuda", None)))
    for step in planned:
        for name in step.given:
            assert NAMES.index(name) < NAMES.index(step.name)
    commands: list[list[str]] = []

    def pretend(command: list[str], log: Path, limit_s: float) -> int:
        commands.append(command)
        Path(command[-1]).write_text("{}")
        return 0

    monkeypatch.setattr(run_gpu, "run_limited", pretend)
    chosen = [
        "--only",
        "clip_fused_25f,clip_fused_25f_attention,clip_fused_25f_plain",
        "--minutes",
        90,
    ]
    assert _run(monkeypatch, "--results", tmp_path / "before", *chosen) == 0
    for name in ("attention", "twins_25f"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert _run(monkeypatch, "--results", tmp_path / "x", "--done", tmp_path, *chosen) == 0

    def given(command: list[str], option: str) -> str | None:
        return Path(command[command.index(option) + 1]).name if option in command else None

    told = [(given(command, "--attention"), given(command, "--twins")) for command in commands]
    nothing, attended = (None, None), ("attention.json", None)
    assert told == [nothing] * 4 + [("attention.json", "twins_25f.json"), attended]


def test_a_step_has_room_beyond_its_usual_time() -> None:
    assert all(
        isinstance(step, Step) and step.limit_s > step.usual_s
        for step in steps(scale_for("cuda", None))
    )
