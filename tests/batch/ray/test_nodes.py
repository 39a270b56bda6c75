"""The command on real Ray nodes, which are killed: every clip is made once all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from servers.databases import emptied
from servers.ray_nodes import Nodes, ray_nodes

from svd_local.catalog import Catalog
from svd_local.media.probe import probe

pytest.importorskip("ray", reason="Ray is not installed (the extra ray)", exc_type=ImportError)

CLIPS = 8
PLACES = Path(__file__).parents[2] / "servers" / "ray_places.py"
NIGHT_ALONE = Path(__file__).parents[2] / "servers" / "ray_night_alone.py"


@pytest.fixture(autouse=True)
def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SVD_LOCAL_MEDIA_DIR", str(tmp_path / "media"))
    monkeypatch.setenv("SVD_LOCAL_ENABLE_FAKE_TIER", "1")
    monkeypatch.setenv("SVD_LOCAL_FAKE_SECONDS", "1")
    # As where the repository was cloned: the actors must not take it for the package.
    (tmp_path / "svd_local").mkdir()
    rows = [json.dumps({"prompt": f"Lesson {n}", "tier": "fake"}) for n in range(CLIPS)]
    (tmp_path / "m.jsonl").write_text("\n".join(rows))


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with ray_nodes(1, 1, SCRIPTED_MARKS=str(tmp_path)) as running:
        yield running


def started(environment: dict[str, str], *more: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a terminal has it."""
    command = [
        "batch",
        "m.jsonl",
        "--out",
        "out",
        "--no-report",
        "--json",
        "--runner",
        "ray",
        *more,
    ]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "svd_local", *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(
    process: subprocess.Popen[str], after: str = "", then: Callable[[], None] | None = None
) -> tuple[int, str, dict[str, Any]]:
    """Status, what was told, and the document; ``then`` is done once ``after`` was told."""
    with process:
        assert process.stderr is not None
        assert process.stdout is not None
        told = ""
        for line in process.stderr:
            told += line
            if then is not None and after in line:
                then()
                then = None
        document = process.stdout.read()
    return process.returncode, told, json.loads(document) if document else {}


def require_each_once(database_url: str | None = None) -> None:
    """Every job done, each clip whole, each row one file's, nothing temporary left."""
    made = sorted(Path("out").absolute().glob("*.mp4"))
    assert len(made) == CLIPS
    assert all(probe(path).frames == 14 for path in made)
    assert not list(Path("out").glob(".svd-*"))
    with Catalog(database_url, Path("media").absolute()) as catalog:
        assert sorted(clip.path for clip in catalog.clips()) == made
        [batch] = catalog.jobs.batches()
        jobs = catalog.jobs.jobs(batch.id, limit=None)
        assert {job.state for job in jobs} == {"done"}
        assert len({job.clip_id for job in jobs}) == CLIPS


def test_a_killed_nodes_jobs_are_done_by_the_other(nodes: Nodes) -> None:
    process = started(nodes.environment, "--address", nodes.address)
    status, told, document = ended(process, "[3/", lambda: nodes.kill(1))
    assert status == 0, told
    assert (document["made"], document["batch"]["counts"]["done"]) == (CLIPS, CLIPS)
    losses = [worker["losses"] for worker in document["workers"]]
    assert sorted(map(len, losses)) == [0, 1], told
    assert 1 <= document["postponed"] <= 2, told
    assert "is lost" in told
    require_each_once()


@pytest.mark.long
def test_it_is_known_whether_an_actor_has_its_place(nodes: Nodes) -> None:
    """By what Ray keeps to itself: a version that has it no more is to be noticed."""
    asking = subprocess.run(
        [sys.executable, "-P", PLACES, nodes.address],
        env=nodes.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asking.returncode == 0, asking.stderr
    *starting, waiting = json.loads(asking.stdout)
    assert None not in starting, "they have their places, though they never answer"
    assert waiting is None, "there is no room"


@pytest.mark.long
def test_after_a_killed_driver_the_same_command_goes_on(nodes: Nodes) -> None:
    first = started(nodes.environment, "--address", nodes.address)
    status, told, _ = ended(first, "[3/", first.kill)
    assert status == -signal.SIGKILL, told
    status, told, document = ended(started(nodes.environment, "--address", nodes.address))
    assert status == 0, told
    assert 0 < document["made"] + document["adopted"] < CLIPS
    assert "of them done before" in told
    require_each_once()


@pytest.mark.long
def test_two_drivers_share_a_catalog_and_one_is_killed(nodes: Nodes, postgres: str) -> None:
    shared = {**nodes.environment, "SVD_LOCAL_DATABASE_URL": (url := emptied(postgres))}
    stays, dies = [started(shared, "--address", nodes.address, "--workers", "1") for _ in range(2)]
    status, told, _ = ended(dies, ": synthetic_video", dies.kill)
    assert status == -signal.SIGKILL, told
    status, told, document = ended(stays)
    assert status == 0, told
    assert 0 < document["made"] < CLIPS, told
    assert document["batch"]["counts"]["done"] == CLIPS
    require_each_once(url)


@pytest.mark.long
def test_actors_that_die_or_lose_their_gpu_are_replaced(nodes: Nodes, tmp_path: Path) -> None:
    nodes.kill(1)
    prompts = ["lose-once a", "die-once b", "segv c", "d"]
    night = subprocess.run(
        [sys.executable, NIGHT_ALONE, nodes.address, tmp_path, *prompts],
        env=nodes.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert night.returncode == 1, night.stderr
    with Catalog(None, tmp_path / "media") as catalog:
        jobs = catalog.jobs.jobs(catalog.jobs.batch("night").id, limit=None)
    ends = [(job.state, job.attempt, job.reason and job.reason.code) for job in jobs]
    assert ends[2] == ("failed", 2, "worker-lost"), night.stdout
    assert [end[:2] for end in ends[:2]] == [("done", 2)] * 2
    assert ends[3][:2] == ("done", 1)
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 3
    assert "device-side assert" in night.stdout
    assert not list((tmp_path / "out").glob(".svd-*"))
    # What a killed one leaves is swept by the next; the last of them here is tried alone, and has none.
    assert len(list(Path(nodes.environment["TMPDIR"]).glob("svd-local-ray-*"))) <= 1


@pytest.mark.long
def test_alone_it_listens_on_the_loopback_and_heeds_an_interrupt(tmp_path: Path) -> None:
    process = started({**os.environ, "RAY_AUTH_TOKEN_PATH": _token(tmp_path)})
    listening: set[str] = set()

    def look_and_interrupt() -> None:
        driver = psutil.Process(process.pid)
        for one in [driver, *driver.children(recursive=True)]:
            ears = [c for c in one.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            listening.update(ear.laddr.ip for ear in ears)
        os.killpg(process.pid, signal.SIGINT)

    status, told, document = ended(process, "[2/", look_and_interrupt)
    assert status == 130, told
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert listening
    counts = document["batch"]["counts"]
    assert counts["running"] == counts["failed"] == document["postponed"] == 0
    assert 2 <= counts["done"] < CLIPS
    assert "finishing the clips at hand" in told
    assert _ends(process.pid)


def _token(folder: Path) -> str:
    path = folder / "token"
    path.write_text("of-the-tests-own")
    return str(path)


def _ends(group: int) -> bool:
    """Whether soon nothing of the process group is left."""
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
