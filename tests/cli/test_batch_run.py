"""``svd-local batch MANIFEST`` from the evening to the morning: run, stopped, killed, gone on with."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers.databases import database_of

from svd_local.batch.asked import command_of
from svd_local.catalog import Catalog
from svd_local.cli import run
from svd_local.errors import InvalidRequest
from svd_local.media.probe import probe

Svd = Callable[..., tuple[int, dict[str, Any]]]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "lessons.csv"


@pytest.fixture(autouse=True)
def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    url = database_of(tmp_path)
    if url is not None:
        monkeypatch.setenv("SVD_LOCAL_DATABASE_URL", url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
    monkeypatch.setenv("SVD_LOCAL_ENABLE_FAKE_TIER", "1")


@pytest.fixture
def svd(capfd: pytest.CaptureFixture[str]) -> Svd:
    """A command's exit status and its document."""

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        status = run([*arguments, "--json"])
        return status, json.loads(capfd.readouterr().out)

    return call


def manifest(rows: int) -> str:
    lines = [json.dumps({"prompt": f"Lesson {n}", "tier": "fake"}) for n in range(rows)]
    Path("m.jsonl").write_text("\n".join(lines))
    return "m.jsonl"


def batch(*more: str) -> tuple[str, ...]:
    return ("batch", "m.jsonl", "--out", "out", "--output-template", "{index:03d}", *more)


def started(*arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "svd_local", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def await_clips(count: int, of: subprocess.Popen[str]) -> None:
    give_up = time.monotonic() + 60
    while len(list(Path("out").glob("*.mp4"))) < count:
        assert of.poll() is None, of.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.02)


def await_running(count: int) -> None:
    give_up = time.monotonic() + 60
    with Catalog(os.environ.get("SVD_LOCAL_DATABASE_URL"), Path("media")) as catalog:
        while sum(one.counts.get("running", 0) for one in catalog.jobs.batches()) < count:
            assert time.monotonic() < give_up
            time.sleep(0.05)


def assert_whole(count: int) -> None:
    """Every clip once, playable, and nothing else beside the report."""
    out = Path("out")
    assert sorted(path.name for path in out.glob("*.mp4")) == [f"{n:03d}.mp4" for n in range(count)]
    assert all(probe(path).frames == 14 for path in out.glob("*.mp4"))
    assert not list(out.glob(".svd-*"))


def test_a_batch_is_made_reported_and_not_made_again(
    svd: Svd, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest(3)
    status, document = svd(*batch())
    assert (status, document["success"], document["made"]) == (0, True, 3)
    assert document["batch"]["counts"]["done"] == 3
    assert_whole(3)
    assert Path(document["report"]["html"]).is_file()

    status, document = svd(*batch())
    assert (status, document["made"], document["batch"]["counts"]["done"]) == (0, 0, 3)
    status, document = svd("batch", "status")
    assert [one["counts"]["done"] for one in document["batches"]] == [3]

    manifest(4)
    forecast = svd(*batch("--dry-run"))[1]["forecast"]
    assert (forecast["clips"], forecast["over"]) == (1, {"done": 3})
    manifest(3)
    assert run([*batch("--dry-run")]) == 0
    told = capfd.readouterr().out
    assert "3 of 3 are done already" in told
    assert "time" not in told
    status, document = svd(*batch())
    assert (status, document["made"]) == (0, 0)


def test_other_options_make_other_clips_which_is_said(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(1)
    monkeypatch.setenv("SVD_LOCAL_FAKE_FAILURES", "failed")
    assert run([*batch("--no-report", "--tries", "1")]) == 1
    monkeypatch.delenv("SVD_LOCAL_FAKE_FAILURES")
    assert run(["batch", "retry", "m"]) == 0
    told = capfd.readouterr().out
    assert "with the same options" in told
    assert "--output-template '{index:03d}'" in told
    assert run([*batch("--no-report", "--seed", "5")]) == 0
    told = capfd.readouterr().err
    assert "1 that waited is cancelled, 1 is new" in told
    assert "differ from those the batch began with: seed not given, now 5" in told


def test_the_command_that_retry_tells_goes_on(svd: Svd, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest(1)
    monkeypatch.setenv("SVD_LOCAL_FAKE_FAILURES", "failed")
    words = batch(
        "--no-report", "--tries", "1", "--image", str(EXAMPLE.parent / "lesson" / "desk.jpg")
    )
    name = svd(*words, "--steps", "3")[1]["batch"]["name"]
    monkeypatch.delenv("SVD_LOCAL_FAKE_FAILURES")
    svd("batch", "retry", name)
    with Catalog(os.environ.get("SVD_LOCAL_DATABASE_URL"), Path("media")) as catalog:
        command = command_of(catalog.jobs.batch(name))
    assert command is not None
    status, document = svd(*shlex.split(command)[1:], "--no-report")
    assert (status, document["made"], document["batch"]["total"]) == (0, 1, 1)


def test_without_a_folder_each_batch_has_one_of_its_own(svd: Svd) -> None:
    manifest(1)
    Path("n.jsonl").write_text(Path("m.jsonl").read_text())
    first, second, again, named = (
        svd("batch", *words, "--no-cache")[1]
        for words in (["m.jsonl"], ["n.jsonl"], ["m.jsonl"], ["m.jsonl", "--name", "a/b: c"])
    )
    folders = [Path(one["batch"]["folder"]) for one in (first, second, named)]
    videos = Path("media/videos").absolute()
    assert [folder.name for folder in folders] == [
        first["batch"]["name"],
        second["batch"]["name"],
        "a_b_ c",
    ]
    assert {folder.parent for folder in folders} == {videos}
    assert all((folder / "report.html").is_file() for folder in folders)
    assert (again["made"], again["batch"]["folder"]) == (0, first["batch"]["folder"])
    dry = svd("batch", "m.jsonl", "--dry-run")[1]
    assert dry["out"] == first["batch"]["folder"]


def test_a_batch_that_began_in_the_common_folder_goes_on_there(svd: Svd) -> None:
    manifest(1)
    videos = Path("media/videos").absolute()
    first = svd("batch", "m.jsonl", "--out", "media/videos")[1]
    again = svd("batch", "m.jsonl")[1]
    assert (first["made"], again["made"]) == (1, 0)
    assert again["batch"]["id"] == first["batch"]["id"]
    assert again["batch"]["folder"] == str(videos)


def test_it_tells_each_clip_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    manifest(2)
    assert run([*batch("--no-report")]) == 0
    printed = capfd.readouterr()
    assert "[2/2]" in printed.err
    assert "2 of 2 clips done, 2 made now" in printed.out
    assert not Path("out/report.html").exists()
    assert run([*batch("--no-report")]) == 0
    assert "2 of them done before" in capfd.readouterr().err


def test_failures_have_their_reasons_and_can_be_tried_again(
    svd: Svd, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(3)
    monkeypatch.setenv("SVD_LOCAL_FAKE_FAILURES", "ok,failed")
    status, document = svd(*batch("--tries", "1", "--lanes", "1"))
    assert (status, document["error"]["code"], len(document["failures"])) == (1, "jobs-failed", 1)
    assert document["failures"][0]["reason"]["code"] == "tier-failed"
    name = document["batch"]["name"]

    status, document = svd("batch", "status", name)
    assert [job["row"] for job in document["failed"]] == [2]
    assert svd("batch", "retry", name) == (
        0,
        {"success": True, "batch": name, "clips": 1, "state": "queued"},
    )
    monkeypatch.delenv("SVD_LOCAL_FAKE_FAILURES")
    assert svd(*batch())[0] == 0
    assert_whole(3)


def test_cancelled_rows_are_left_out_until_they_are_wanted(
    svd: Svd, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(2)
    monkeypatch.setenv("SVD_LOCAL_FAKE_FAILURES", "failed*2")
    _, document = svd(*batch("--tries", "1", "--lanes", "1", "--no-report"))
    name = document["batch"]["name"]
    monkeypatch.delenv("SVD_LOCAL_FAKE_FAILURES")
    svd("batch", "retry", name)
    assert svd("batch", "cancel", name, "--row", "2")[1]["clips"] == 1
    assert svd(*batch())[1]["batch"]["counts"]["cancelled"] == 1
    assert svd("batch", "retry", name, "--row", "2")[1]["clips"] == 1
    assert svd(*batch())[0] == 0
    assert_whole(2)


def test_rows_that_are_gone_do_not_make_it_look_unfinished(
    svd: Svd, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(3)
    monkeypatch.setenv("SVD_LOCAL_FAKE_FAILURES", "busy*3")
    first = svd(*batch("--no-report", "--tries", "1"))[1]
    monkeypatch.delenv("SVD_LOCAL_FAKE_FAILURES")
    name = first["batch"]["name"]
    assert svd("batch", "retry", name)[1]["clips"] == 3
    manifest(2)
    assert run([*batch()]) == 0
    told = capfd.readouterr().out
    assert "2 of 2 clips done, 2 made now, 1 cancelled, in" in told
    assert "All 2 videos are ready; 1 cancelled." in told


@pytest.mark.parametrize("command", ["status", "retry", "cancel", "report"])
def test_a_batch_nobody_began(svd: Svd, command: str) -> None:
    status, document = svd("batch", command, "nothing")
    assert (status, document["error"]["code"]) == (2, "not-found")
    assert svd("batch", "status") == (0, {"success": True, "batches": []})


def test_a_row_the_batch_does_not_have(svd: Svd) -> None:
    manifest(1)
    name = svd(*batch("--no-report"))[1]["batch"]["name"]
    status, document = svd("batch", "retry", name, "--row", "7")
    assert (status, document["error"]["code"]) == (2, "not-found")


def test_bad_rows_stop_it_before_anything_is_written_or_are_left_out(svd: Svd) -> None:
    rows = [{"prompt": "a", "tier": "fake"}, {"prompt": "b", "frames": -1, "tier": "fake"}]
    Path("m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    status, document = svd(*batch())
    assert (status, document["error"]["code"], document["problems"][0]["row"]) == (
        *(2, "invalid-request"),
        2,
    )
    assert not Path("out").exists()
    assert not Path("media").exists()
    status, document = svd(*batch("--skip-invalid"))
    assert (status, document["made"], document["skipped_rows"]) == (0, 1, 1)
    assert [(one["row"], one["field"]) for one in document["skipped"]] == [(2, "frames")]


def test_rows_that_were_left_out_are_told_from_evening_to_morning(
    svd: Svd, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": "a", "tier": "fake"}]
    rows += [{"prompt": f"b {n}", "frames": -1, "tier": "fake"} for n in range(30)]
    Path("m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run([*batch("--skip-invalid")]) == 0
    told = capfd.readouterr()
    before = told.err[: told.err.index("batch m-")]
    assert before.count("frames: -1 frames make no video. Write 14 to 25.") == 20
    assert "and 10 more; this command with --dry-run --json tells all of them" in before
    line = (
        "30 rows of the manifest were left out as bad: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 20 more"
    )
    assert line in before
    assert f"{line}; svd-local batch status m-" in told.out
    assert "The video is ready; 30 rows left out as bad." in told.out
    assert run(["batch", "status"]) == 0
    assert "1 done, 30 rows left out as bad" in capfd.readouterr().out
    assert run(["batch", "status", "m"]) == 0
    told = capfd.readouterr()
    assert line in told.out
    assert told.out.count("frames: -1 frames make no video") == 20
    assert "and 10 more" in told.out
    assert len(svd("batch", "status", "m")[1]["batch"]["skipped"]["problems"]) == 30

    rows = [{"prompt": "a", "tier": "fake"}]
    Path("m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    document = svd(*batch("--skip-invalid"))[1]
    assert (document["made"], document["skipped_rows"], document["skipped"]) == (0, 0, [])
    assert document["batch"]["skipped"] is None
    assert run(["batch", "status", "m"]) == 0
    assert "left out" not in capfd.readouterr().out


def test_a_command_and_its_death_are_told_in_another_shell(
    svd: Svd, capfd: pytest.CaptureFixture[str]
) -> None:
    """It pauses, for the disk is too full for any clip by a reserve that no disk has, and is killed."""

    def status(*more: str) -> str:
        capfd.readouterr()
        assert run(["batch", "status", *more]) == 0
        return capfd.readouterr().out

    manifest(1)
    command = subprocess.Popen(
        [sys.executable, "-m", "svd_local", *batch("--no-report")],
        env={**os.environ, "SVD_LOCAL_DISK_RESERVE": "900TiB"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        give_up = time.monotonic() + 60
        while not (found := svd("batch", "status")[1]["batches"]) or found[0]["pause"] is None:
            assert command.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.1)
        assert "900.0 TiB are kept" in found[0]["pause"]["why"]
        assert "1 queued, paused" in status()
        told = status("m")
        assert re.search(r"paused since \d{4}-\d\d-\d\d \d\d:\d\d: .* are kept\. Free some", told)
        assert re.search(rf"at work since \d{{4}}.*-{command.pid}-", told)
        assert svd("batch", "status", "m")[1]["runs"][0]["state"] == "running"
    finally:
        command.kill()
        command.wait()
    assert "1 queued\n" in status()
    told = status("m")
    assert re.search(
        r"last run: .*, 0 clips made; it was killed, or cut off\. It goes on with:", told
    )
    assert re.search(r"^    svd-local batch .*m\.jsonl --out ", told, re.MULTILINE)
    assert "paused" not in told
    run_, batch_ = (svd("batch", "status", "m")[1][what] for what in ("runs", "batch"))
    assert (run_[0]["state"], batch_["pause"], batch_["cut_off"]) == ("lost", None, 0)

    assert svd(*batch("--no-report"))[0] == 0
    assert re.search(r"last run: .* 1 clip made\n", status("m"))
    states = [one["state"] for one in svd("batch", "status", "m")[1]["runs"]]
    assert states == ["ended", "lost"]


def test_an_empty_manifest_and_a_folder_that_is_a_file(svd: Svd) -> None:
    Path("m.jsonl").write_text("")
    assert svd(*batch())[0] == 2
    manifest(1)
    Path("out").write_text("")
    status, document = svd(*batch())
    assert (status, document["error"]["code"]) == (1, "storage-failed")
    assert not Path("media").exists()


def test_killed_in_the_middle_it_goes_on(svd: Svd, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest(6)
    monkeypatch.setenv("SVD_LOCAL_FAKE_SECONDS", "0.4")
    process = started(*batch())
    await_clips(2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    status, document = svd(*batch())
    assert status == 0
    assert document["batch"]["counts"]["done"] == 6
    assert document["made"] <= 4
    assert_whole(6)


def test_interrupted_once_it_finishes_the_clips_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest(8)
    monkeypatch.setenv("SVD_LOCAL_FAKE_SECONDS", "0.5")
    process = started(*batch("--json"))
    await_clips(1, process)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    document = json.loads(out)
    assert process.returncode == 130
    assert (document["error"]["code"], document["stopped"]) == ("cancelled", True)
    assert "Ctrl-C again" in err
    counts = document["batch"]["counts"]
    assert counts["running"] == 0
    assert 1 <= counts["done"] < 8
    assert len(list(Path("out").glob("*.mp4"))) == counts["done"]


def test_a_terminal_that_is_closed_ends_it_as_gently(
    svd: Svd, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(4)
    monkeypatch.setenv("SVD_LOCAL_FAKE_SECONDS", "1")
    pty = pytest.importorskip("pty", reason="terminals are POSIX")
    screen, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "svd_local", *batch("--no-report", "--lanes", "1")],
        **dict.fromkeys(("stdin", "stdout", "stderr"), inside),
        start_new_session=True,
    )
    os.close(inside)
    await_running(1)
    os.close(screen)  # whatever is said from here on cannot be written
    process.send_signal(signal.SIGHUP)
    assert process.wait(30) != 0
    counts = svd("batch", "status")[1]["batches"][0]["counts"]
    assert (counts["done"], counts["queued"]) == (1, 3), "the clip at hand was finished"
    assert_whole(1)


def test_interrupted_twice_it_gives_the_clips_at_hand_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest(2)
    monkeypatch.setenv("SVD_LOCAL_FAKE_SECONDS", "60")
    process = started(*batch("--json", "--no-report"))
    await_running(2)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["batch"]["counts"]["queued"] == 2
    assert not list(Path("out").iterdir())


def test_two_commands_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest(8)
    monkeypatch.setenv("SVD_LOCAL_FAKE_SECONDS", "0.2")
    both = [started(*batch("--json", "--no-report")) for _ in range(2)]
    ended = [json.loads(process.communicate(timeout=90)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(one["made"] for one in ended) == 8
    assert_whole(8)


@pytest.mark.long
def test_the_sample_manifest_with_the_tiny_checkpoint(
    svd: Svd, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVD_LOCAL_MODELS_DIR", str(tiny_models))
    status, document = svd(
        *("batch", str(EXAMPLE), "--checkpoint", "tiny-svd", "--device", "cpu", "--steps", "2"),
        *("--tier", "local"),
    )
    assert (status, document["made"]) == (0, document["batch"]["total"])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--runner", "dask"), "runner"),
        (("--address", "10.0.0.1:6379"), "address"),
        (("--runner", "ray", "--gpus", "0"), "gpus"),
        (("--runner", "ray", "--address", "127.0.0.1:1"), "address"),
        (("--runner", "ray", "--address", "ray://10.0.0.1:10001"), "address"),
        (("--runner", "ray", "--workers", "0"), "workers"),
    ],
)
def test_a_runner_that_cannot_be_had_is_said_and_nothing_is_written(
    svd: Svd, options: tuple[str, ...], field: str
) -> None:
    manifest(1)
    status, document = svd(*batch(*options))
    assert (status, document["error"]["field"]) == (2, field)
    assert not Path("out").exists()
    assert not Path("media").exists()


def test_ray_that_is_not_installed_is_said(svd: Svd, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest(1)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    status, document = svd(*batch("--runner", "ray"))
    assert (status, document["error"]["field"]) == (2, "runner")
    assert "scripts/setup ray" in document["error"]["hint"]
    assert not Path("media").exists()


def test_what_ray_prints_is_kept_out_of_the_document(
    svd: Svd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_ray(*arguments: Any, **options: Any) -> None:
        print("(raylet) A worker died")
        raise InvalidRequest("address: none", hint="Give one.", field="address")

    monkeypatch.setattr("svd_local.batch.ray.run_ray", run_ray)
    manifest(1)
    assert svd(*batch("--runner", "ray"))[0] == 2
