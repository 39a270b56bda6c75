"""``svd-local batch MANIFEST --dry-run``: what is said of a manifest, and the exit status."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import typer

from svd_local.cli import app, run
from svd_local.cli.generate import generate

EXAMPLE = Path(__file__).parents[2] / "examples" / "lessons.csv"
Printed = tuple[int, str, str]


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))


@pytest.fixture
def svd(capfd: pytest.CaptureFixture[str]):
    def call(*arguments: str) -> Printed:
        status = run(["batch", *arguments])
        printed = capfd.readouterr()
        return status, printed.out, printed.err

    return call


def _json(printed: Printed) -> tuple[int, dict[str, Any]]:
    return printed[0], json.loads(printed[1])


def _write(tmp_path: Path, text: str) -> str:
    (tmp_path / "m.csv").write_text(text)
    return "m.csv"


def test_the_example(svd, tmp_path: Path) -> None:
    status, document = _json(
        svd(
            str(EXAMPLE),
            *("--checkpoint", "tiny-svd", "--device", "cpu", "--dry-run", "--json"),
            *("--output-template", "{lesson}/{index:03d}_{title}", "--out", "clips"),
        )
    )
    assert status == 0
    assert document["success"]
    assert document["dry_run"]
    assert (document["rows"], document["jobs"], document["problems"]) == (6, 7, [])
    assert document["out"] == str(tmp_path / "clips")
    (group,) = document["forecast"]["groups"]
    assert (group["tier"], group["checkpoint"], group["clips"]) == ("local", "tiny-svd", 7)
    assert list(tmp_path.iterdir()) == []


def test_for_people(svd) -> None:
    status, out, err = svd("--dry-run", str(EXAMPLE))
    assert status == 0
    assert "7 of 7 clips good" in out
    assert "disk: about" in out
    assert "time: not known" in out
    assert "no NVIDIA GPU" in err


def test_bad_rows(svd, tmp_path: Path) -> None:
    path = _write(tmp_path, "prompt,frames\na,14\nb,-1\n\x1b[31mc,x\n")
    status, out, err = svd(path, "--dry-run")
    assert status == 2
    assert "row 3: frames: -1 frames make no video" in err
    assert "--skip-invalid" in err
    assert "1 of 3 clips good" in out
    assert "\x1b" not in out + err
    status, document = _json(svd(path, "--dry-run", "--json"))
    assert (status, document["success"], document["error"]["code"]) == (2, False, "invalid-request")
    assert [(p["row"], p["field"]) for p in document["problems"]] == [(3, "frames"), (4, "frames")]
    status, document = _json(svd(path, "--dry-run", "--json", "--skip-invalid"))
    assert (status, document["success"], document["good_jobs"]) == (0, True, 1)


def test_one_is_no_plural(svd, tmp_path: Path) -> None:
    path = _write(tmp_path, "prompt\na\n")
    assert svd(path, "--dry-run")[1].startswith("m.csv: 1 row, 1 of 1 clip good\n")
    path = _write(tmp_path, "prompt,frames\na,-1\n")
    _, out, err = svd(path, "--dry-run")
    assert out.startswith("m.csv: 1 row, 0 of 1 clip good\n")
    assert "1 of 1 row cannot be made\nCorrect it.\n" in err


def test_a_folder_without_pictures_is_told_as_such(svd, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "notes.txt").write_text("")
    status, _, err = svd("pictures", "--dry-run")
    assert status == 2
    assert "the folder pictures holds no pictures" in err
    assert "1 file that is no picture was passed over" in err
    assert "Put the pictures right into it" in err
    status, _, err = svd(_write(tmp_path, "prompt\n"), "--dry-run")
    assert "m.csv holds no rows\nWrite a row for every clip." in err


def test_print_is_capped_and_json_is_not(svd, tmp_path: Path) -> None:
    path = _write(tmp_path, "prompt,frames\n" + "a,-1\n" * 50)
    _, _, err = svd(path, "--dry-run")
    assert err.count("row ") == 20
    assert "30 more" in err
    assert len(_json(svd(path, "--dry-run", "--json"))[1]["problems"]) == 50


def test_options_fill_in(svd, tmp_path: Path) -> None:
    path = _write(tmp_path, "n\n1\n2\n")
    status, document = _json(
        svd(path, "--dry-run", "--prompt", "lesson ${n}", "--seed", "7", "--count", "3", "--json")
    )
    assert (status, document["jobs"], document["good_jobs"]) == (0, 6, 6)


def test_every_option_of_generate_is_one_of_the_batch() -> None:
    command = typer.main.get_command(app).commands["batch"].commands["run"]  # type: ignore[attr-defined]
    theirs = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    assert {o for p in theirs.params for o in p.opts} <= {o for p in command.params for o in p.opts}
    assert len(inspect.signature(generate).parameters) > 20


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["none.csv", "--dry-run"], "manifest"),
        (["m.csv", "--dry-run", "--output-template", "../{prompt}"], "output_template"),
        (["m.csv", "--dry-run", "--encoding", "klingon"], "encoding"),
        (["m.csv", "--dry-run", "--out", ""], "out"),
        (["m.csv", "--tries", "0"], "tries"),
        (["m.csv", "--name", ""], "name"),
        (["m.csv", "n.csv"], None),
    ],
)
def test_what_means_nothing(svd, tmp_path: Path, arguments: list[str], field: str | None) -> None:
    _write(tmp_path, "prompt\na\n")
    status, document = _json(svd(*arguments, "--json"))
    assert (status, document["success"], document["error"]["field"]) == (2, False, field)


def test_run_may_be_written_out(svd) -> None:
    assert svd("run", str(EXAMPLE), "--dry-run")[0] == 0
    assert svd("--json", "--dry-run", str(EXAMPLE))[0] == 0


def test_help(svd) -> None:
    assert "batch MANIFEST" in svd("--help")[1]
    assert "--output-template" in svd("run", "--help")[1]
    assert svd()[0] == 2
