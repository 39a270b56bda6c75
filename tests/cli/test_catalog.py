"""``catalog list|show|stats|rm``: one JSON document at every ending, plain words otherwise."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from svd_local.catalog import Catalog
from svd_local.cli import run
from svd_local.result import Clip, Files


@pytest.fixture
def media(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
    return tmp_path / "media"


@pytest.fixture
def add(media):
    """Adds a clip of some age in days and answers its id."""

    def add(title: str = "Lesson", days: float = 0, **fields) -> str:
        videos = media / "videos"
        videos.mkdir(parents=True, exist_ok=True)
        number = len(list(videos.glob("*.mp4")))
        files = Files(video=videos / f"{number}.mp4", poster=videos / f"{number}.jpg")
        files.video.write_bytes(b"video")
        files.poster.write_bytes(b"poster")
        values = {"kind": "generated", "tier": "local", "checkpoint": "svd-xt", "elapsed_s": 8.1}
        clip = Clip(
            path=files.video, attempts=(), parameters={"steps": 25}, files=files, **values | fields
        )
        made = datetime.now(UTC) - timedelta(days=days)
        with Catalog(None, media) as catalog:
            return catalog.add(clip, {"title": title}, created_at=made)

    return add


@pytest.fixture
def told(capsys):
    """Runs a command; answers its exit status and the one JSON document on standard output."""

    def told(*arguments: str) -> tuple[int, dict]:
        status = run(["catalog", *arguments, "--json"])
        return status, json.loads(capsys.readouterr().out)

    return told


def test_list_is_newest_first_and_can_be_narrowed(add, told):
    old = add("old", days=10)
    stills = add("stills", days=2, kind="animated-stills", tier="image-sequence")
    new = add("new")
    status, document = told("list")
    assert (status, document["success"]) == (0, True)
    assert [clip["id"] for clip in document["clips"]] == [new, stills, old]
    assert document["clips"][0]["text"] == "new"
    assert document["clips"][0]["present"] is True

    def ids(*arguments):
        return [clip["id"] for clip in told("list", *arguments)[1]["clips"]]

    assert ids("--limit", "1") == [new]
    assert ids("--tier", "image-sequence") == [stills]
    assert ids("--kind", "animated-stills") == [stills]
    assert ids("--since", "3d") == [new, stills]


def test_show_tells_all_by_the_beginning_of_the_id(add, told, media):
    name = add("Lesson 3")
    status, document = told("show", name[:20])
    assert status == 0
    clip = document["clip"]
    assert clip["id"] == name
    assert clip["path"] == str(media / "videos" / "0.mp4")
    assert clip["request"] == {"title": "Lesson 3"}
    assert clip["result"]["parameters"] == {"steps": 25}


def test_stats(add, told):
    add(elapsed_s=4.0)
    add(elapsed_s=6.0)
    status, document = told("stats")
    assert status == 0
    assert document["stats"]["clips"] == 2
    assert document["stats"]["groups"][0]["seconds_median"] == 5.0


def test_rm_removes_one(add, told, media):
    doomed, kept = add(), add()
    status, document = told("rm", doomed)
    assert status == 0
    assert [clip["id"] for clip in document["removed"]] == [doomed]
    assert document["removed"][0]["files"]["video"] == str(media / "videos" / "0.mp4")
    assert sorted(path.name for path in (media / "videos").iterdir()) == ["1.jpg", "1.mp4"]
    assert [clip["id"] for clip in told("list")[1]["clips"]] == [kept]


def test_rm_of_the_old_needs_a_yes_where_nobody_can_be_asked(add, told):
    old, new = add(days=31), add(days=29)
    status, document = told("rm", "--older-than", "30")
    assert (status, document["error"]["code"]) == (2, "invalid-request")
    assert "--yes" in document["error"]["hint"]
    assert document["attempts"] == []
    assert len(told("list")[1]["clips"]) == 2
    status, document = told("rm", "--older-than", "30", "--yes")
    assert (status, [clip["id"] for clip in document["removed"]]) == (0, [old])
    assert told("rm", "--older-than", "30") == (0, {"success": True, "removed": []})
    assert [clip["id"] for clip in told("list")[1]["clips"]] == [new]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "status", "left"), [("n\n", 130, 1), ("y\n", 0, 0)])
def test_rm_asks_on_a_terminal(add, told, monkeypatch, capsys, answer, status, left):
    name = add("Lesson \x1b[31m")
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert run(["catalog", "rm", name]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Remove 1 clip" in captured.err
    assert "\x1b" not in captured.err
    assert len(told("list")[1]["clips"]) == left


@pytest.mark.parametrize(
    ("arguments", "code", "field"),
    [
        (["show", "zzz"], "not-found", None),
        (["rm", "zzz"], "not-found", None),
        (["rm"], "invalid-request", "clip"),
        (["rm", "zzz", "--older-than", "3"], "invalid-request", "clip"),
        (["rm", "--older-than", "soon"], "invalid-request", "older_than"),
        (["rm", "--older-than", "99999999999"], "invalid-request", "older_than"),
        (["list", "--since", "-1"], "invalid-request", "since"),
        (["list", "--kind", "placeholder"], "invalid-request", "kind"),
        (["list", "--limit", "0"], "invalid-request", "limit"),
    ],
)
def test_what_means_nothing_is_refused_and_makes_nothing(told, media, arguments, code, field):
    status, document = told(*arguments)
    assert status == 2
    assert document["success"] is False
    assert (document["error"]["code"], document["error"]["field"]) == (code, field)
    assert document["error"]["hint"]
    assert not media.exists()


def test_a_damaged_catalog_is_an_error_in_json_too(told, media):
    media.mkdir()
    (media / "catalog.sqlite3").write_bytes(b"no database" * 500)
    status, document = told("list")
    assert (status, document["error"]["code"]) == (1, "storage-failed")
    assert str(media / "catalog.sqlite3") in document["error"]["message"]


def test_people_get_tables_of_plain_text(add, capsys, media):
    name = add("[red]Ünïcödé[/red] \x1b[2J", days=1)
    assert run(["catalog", "list"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert "[red]Ünïcödé[/red]  [2J" in line
    assert run(["catalog", "show", line.split()[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clip"]["id"] == name
    assert "svd-xt" in line
    assert run(["catalog", "show", name]) == 0
    shown = capsys.readouterr().out
    assert "result.parameters.steps" in shown
    assert "result.tier" not in shown
    assert str(media / "videos" / "0.mp4") in shown
    assert run(["catalog", "stats"]) == 0
    assert "8.1" in capsys.readouterr().out
    (media / "videos" / "0.mp4").unlink()
    assert run(["catalog", "list"]) == 0
    assert "file is gone" in capsys.readouterr().out


def test_no_clips_is_said_beside_the_data(media, capsys):
    assert run(["catalog", "list"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no clips\n")


def test_help_loads_no_database_library():
    script = (
        "import sys; from svd_local.cli import run; run(['catalog', '--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('sqlalchemy', 'alembic', 'torch')))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
