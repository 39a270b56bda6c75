"""``batch report`` and ``catalog stats --batch``: figures in words, one JSON document otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from servers.databases import database_of

from svd_local.catalog import Catalog
from svd_local.catalog.jobs import NewJob, Reason
from svd_local.cli import run
from svd_local.cli.batch_report import show
from svd_local.result import Clip, Files


@pytest.fixture
def batch(tmp_path, monkeypatch, server) -> Path:
    """Answers the output folder of a batch of one video, one failure and one that waits."""
    monkeypatch.chdir(tmp_path)
    media = tmp_path / "media"
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(media))
    folder = media / "videos" / "week \x1b[2J48"
    folder.mkdir(parents=True)
    url = database_of(tmp_path)
    if url is not None:
        monkeypatch.setenv("SVD_LOCAL_DATABASE_URL", url)
    with Catalog(url, media) as catalog:
        jobs = catalog.jobs
        new = [NewJob(f"{n:064x}", n + 2, n, {"title": f"clip {n}"}) for n in range(3)]
        name = jobs.enroll("Lessons", new, folder=folder).batch.id
        lease = jobs.claim(name, "worker", lease_s=60)
        video = folder / "a.mp4"
        video.write_bytes(b"video")
        made = {"tier": "local", "checkpoint": "svd-xt", "speed": "exact", "elapsed_s": 8.1}
        clip = Clip("generated", video, attempts=(), parameters={}, files=Files(video), **made)
        catalog.add(
            clip,
            {"title": "clip 0"},
            joined=lambda session, id: jobs.complete(
                session, lease, clip_id=id, path=video, cached=False
            ),
        )
        reason = Reason("out-of-memory", "\x1b[31mtoo small", "Close programs.")
        lease = jobs.claim(name, "worker", lease_s=60)
        jobs.fail(lease, reason, tries=1, delay_s=0)
        other = folder / "other.mp4"
        other.write_bytes(b"video")
        made["elapsed_s"] = 99.0
        catalog.add(
            Clip("generated", other, attempts=(), parameters={}, files=Files(other), **made), {}
        )
    return folder


def test_report_in_words(batch, capsys):
    show("Less", sheets=False)
    out = capsys.readouterr().out
    assert "Not finished: 1 of 3 videos are ready; 1 failed, 1 still to do." in out
    assert "8.1 s of work on a video" in out
    assert "1 x out-of-memory:  [31mtoo small" in out
    assert "\x1b" not in out
    assert (batch / "report.html").is_file()


def test_report_as_a_document(batch, capsys):
    show("Lessons", sheets=False, json_output=True)
    document = json.loads(capsys.readouterr().out)
    assert document["success"] is True
    assert document["batch"]["name"] == "Lessons"
    assert Path(document["report"]["html"]) == batch / "report.html"
    assert document["report"]["figures"]["videos"] == 1


def test_a_batch_that_is_not_there(batch, capsys):
    with pytest.raises(typer.Exit) as ended:
        show("other", json_output=True)
    assert ended.value.exit_code == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not-found"


def test_status_tells_clips_of_one_row_apart_and_what_cannot_be_changed(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
    with Catalog(None, tmp_path / "media") as catalog:
        rows = (2, 3, 3, 3)
        new = [NewJob(f"{n}", row, n, {"seed": 40 + n}) for n, row in enumerate(rows)]
        name = catalog.jobs.enroll("Seeds", new, folder=tmp_path).batch.id
        for _ in range(3):
            lease = catalog.jobs.claim(name, "host:1", lease_s=60)
            catalog.jobs.fail(lease, Reason("x", "no"), tries=1, delay_s=0)
        catalog.jobs.claim(name, "host:1", lease_s=60)
    assert run(["batch", "status", "Seeds"]) == 0
    out = capsys.readouterr().out
    assert run(["batch", "retry", "Seeds", "--row", "2"]) == 0
    assert run(["batch", "cancel", "Seeds", "--row", "2"]) == 0
    capsys.readouterr()
    assert run(["batch", "cancel", "Seeds", "--row", "2"]) == 0
    assert capsys.readouterr().out == "0 clips cancelled: none of them waits or runs\n"
    assert run(["batch", "retry", "Seeds"]) == 0
    capsys.readouterr()
    assert run(["batch", "retry", "Seeds"]) == 0
    assert capsys.readouterr().out == (
        "0 clips queued: none of them failed; --cancelled takes those that were cancelled as well\n"
    )
    told = [line.strip() for line in out.splitlines() if line.startswith("  row")]
    assert told == [
        "row 3, seed 43 is with host:1, try 1",
        "row 2 failed: no",
        "row 3, seed 41 failed: no",
        "row 3, seed 42 failed: no",
    ]


def test_stats_of_one_batch(batch, capsys):
    assert run(["catalog", "stats", "--json"]) == 0
    every = json.loads(capsys.readouterr().out)["stats"]
    assert (every["clips"], every["seconds_p95"]) == (2, 99.0)
    assert run(["catalog", "stats", "--batch", "Less", "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)["stats"]
    assert (ours["clips"], ours["seconds_median"], ours["seconds_p95"]) == (1, 8.1, 8.1)
    assert run(["catalog", "stats", "--batch", "Lessons"]) == 0
    out = capsys.readouterr().out
    assert "svd-xt" in out
    assert "99.0" not in out
    assert run(["catalog", "stats", "--batch", "no such"]) == 2


def test_stats_of_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "empty"))
    assert run(["catalog", "stats"]) == 0
    assert "no clips" in capsys.readouterr().err
    assert run(["catalog", "stats", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stats"]["seconds_median"] is None
    assert not (tmp_path / "empty").exists()
