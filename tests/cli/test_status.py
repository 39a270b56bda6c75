"""``status``, ``self-test``, ``--version``: quick, without torch, true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import svd_local
from svd_local.cli import run


@pytest.fixture(autouse=True)
def _media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))


_HEAVY = ("torch", "diffusers", "transformers", "accelerate")


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["status", "--json"]])
def test_torch_stays_out(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from svd_local.cli import run\n"
        f"assert run({arguments!r}) == 0\n"
        f"print([name for name in {_HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_importing_the_package_imports_next_to_nothing() -> None:
    code = "import sys, svd_local; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in (*_HEAVY, "pydantic", "PIL", "numpy", "sqlalchemy", "huggingface_hub"):
        assert f"'{heavy}'" not in done.stdout


def test_the_public_names_are_pinned() -> None:
    assert svd_local.__all__ == sorted(svd_local.__all__, key=lambda n: (n.islower(), n))
    for name in svd_local.__all__:
        assert getattr(svd_local, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        svd_local.nonsense  # noqa: B018


def test_status_tells_each_tier_and_why(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    tiers = {tier["id"]: tier for tier in report["tiers"]}
    assert list(tiers) == [
        *("local", "huggingface", "webui", "image-sequence", "placeholder", "fake"),
    ]
    assert all(tier["reason"] for tier in tiers.values())
    assert tiers["image-sequence"]["available"]
    assert not tiers["huggingface"]["available"]
    assert report["would_leave_machine"] == []
    assert report["ffmpeg"]["version"]
    assert report["versions"]["torch"]
    assert report["paths"]["catalog"].endswith("catalog.sqlite3")


def test_status_says_what_would_leave_the_machine(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HUGGING_FACE_TOKEN", "hf_canary")
    assert run(["status", "--json"]) == 0
    printed = capfd.readouterr()
    report = json.loads(printed.out)
    assert any("huggingface" in line for line in report["would_leave_machine"])
    assert "canary" not in printed.out + printed.err


def test_status_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 0
    printed = capfd.readouterr().out
    assert "image-sequence" in printed
    assert "ffmpeg" in printed


def test_a_bad_database_url_does_not_show_its_password(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVD_LOCAL_DATABASE_URL", "postgresql://user:canary@localhost:1/db")
    run(["status", "--json"])
    printed = capfd.readouterr()
    assert "canary" not in printed.out + printed.err


def test_self_test_makes_and_checks_files_and_leaves_none(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["self-test", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    outcomes = {tier["tier"]: tier for tier in report["tiers"]}
    assert report["success"]
    assert outcomes["image-sequence"]["outcome"] == "ok"
    assert outcomes["image-sequence"]["video"]
    assert outcomes["placeholder"]["outcome"] == "ok"
    assert not outcomes["placeholder"]["video"]
    assert outcomes["huggingface"]["outcome"] == "unavailable"
    assert report["warnings"] == []
    assert not (tmp_path / "media").exists()


def test_self_test_says_where_clips_could_not_be_stored(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "media").write_text("a file where a folder should be")
    assert run(["self-test", "--json"]) == 0
    (warning,) = json.loads(capfd.readouterr().out)["warnings"]
    assert "cannot be stored" in warning
    assert str(tmp_path / "media") in warning


def test_self_test_fails_where_only_a_placeholder_is_left(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nonexistent/ffmpeg")
    assert run(["self-test", "--json"]) == 1
    report = json.loads(capfd.readouterr().out)
    assert not report["success"]


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capfd.readouterr().out == f"svd-local {svd_local.__version__}\n"


def test_python_dash_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "svd_local", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("svd-local ")


def test_no_command_shows_the_commands(capfd: pytest.CaptureFixture[str]) -> None:
    run([])
    printed = capfd.readouterr()
    assert "generate" in printed.out + printed.err


def test_an_unknown_command_is_one_document(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["frobnicate", "--json"]) == 2
    document = json.loads(capfd.readouterr().out)
    assert document["success"] is False
    assert "frobnicate" in document["error"]["message"]
