"""What is adopted, and what must not be: a whole clip, for the job it was made for, and no other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import batches
from servers.databases import database_of

from svd_local.batch.adoption import adopt
from svd_local.batch.plan import new_jobs
from svd_local.batch.run import run_batch
from svd_local.catalog import Catalog
from svd_local.errors import LeaseLost
from svd_local.generator import read_record

SPECS = [batches.spec(0)]
PART = ".svd-lesson 0.part"
DIE = """
import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])
from helpers import batches
from servers.databases import database_of
from svd_local.batch.run import run_batch
from svd_local.catalog import Catalog
Catalog.add = lambda *args, **options: os._exit(9)
root = Path(sys.argv[2])
run_batch(batches.settings(root, database_of(root)), [batches.spec(0)], batches.options(root))
"""


def run_and_die(root: Path) -> None:
    words = [sys.executable, "-c", DIE, str(Path(__file__).parent.parent), str(root)]
    assert subprocess.run(words).returncode == 9


@pytest.fixture(scope="module")
def dead_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run left that died with its clip published and its row not yet written."""
    root = tmp_path_factory.mktemp("dead")
    run_and_die(root)
    return root


@pytest.fixture
def root(request: pytest.FixtureRequest, server: str, tmp_path: Path) -> Path:
    """A dead run of the test's own: on PostgreSQL a new one, on SQLite a copy."""
    if server == "postgresql":
        run_and_die(tmp_path / "root")
        return tmp_path / "root"
    # The batch's folder is written down in the catalog: the copy says where it is now.
    shutil.copytree(request.getfixturevalue("dead_run"), tmp_path / "root")
    with Catalog(None, tmp_path / "root" / "media") as catalog:
        from sqlalchemy import text

        with catalog._ready().writing() as session:
            moved = {"folder": str(tmp_path / "root" / "out")}
            session.execute(text("UPDATE batches SET folder = :folder"), moved)
    return tmp_path / "root"


@pytest.fixture
def catalog(root: Path) -> Any:
    with Catalog(database_of(root), root / "media") as catalog:
        yield catalog


@pytest.fixture
def adopted(catalog: Catalog, root: Path) -> Callable[..., int]:
    def call(batch_id: str | None = None, lease: Any = None) -> int:
        batch = batch_id or catalog.jobs.batch("night").id
        return len(list(adopt(catalog, batch, root / "out", lease)))

    return call


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def change(root: Path, **values: Any) -> None:
    """Change what the record says of its owner."""
    record = root / "out" / PART / "record"
    document = json.loads(record.read_text())
    document["owner"] |= values
    record.write_text(json.dumps(document))


def test_a_whole_clip_gets_its_row_and_its_job_is_done(
    adopted: Callable[..., int], catalog: Catalog, root: Path
) -> None:
    assert adopted() == 1
    (clip,) = catalog.clips()
    (job,) = catalog.jobs.jobs(catalog.jobs.batch("night").id)
    assert (job.state, job.clip_id, job.path) == ("done", clip.id, root / "out" / "lesson 0.mp4")
    assert clip.present
    assert clip.request["prompt"] == "lesson 0"
    assert clip.document["timings"]["encode_video_s"] > 0
    assert clip.document["quality"]["passed"] is not None
    assert names(root / "out") == ["lesson 0.jpg", "lesson 0.mp4"]
    assert adopted() == 0


def test_the_adopted_clip_is_as_if_nobody_had_died(
    adopted: Callable[..., int], catalog: Catalog, root: Path, tmp_path: Path
) -> None:
    adopted()
    (found,) = catalog.clips()
    url = database_of(tmp_path)
    run_batch(batches.settings(tmp_path, url), SPECS, batches.options(tmp_path))
    with Catalog(url, tmp_path / "media") as other:
        (made,) = other.clips()
    timed = {"elapsed_s", "timings", "attempts"}
    assert {k: v for k, v in found.document.items() if k not in timed} == {
        k: v for k, v in made.document.items() if k not in timed
    }
    assert found.sha256 == made.sha256


def test_a_commit_of_the_dead_that_comes_through_meanwhile_keeps_its_files(
    adopted: Callable[..., int], catalog: Catalog, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may be at the commit for a moment after the process that sent it was killed."""

    def whole(clip: Any, orphan: Any) -> bool:
        owner, _, request = read_record(orphan.record)
        catalog.add(
            clip,
            request,
            joined=lambda session, name: catalog.jobs.complete_for_dead(
                session, owner["job"], owner["token"], clip_id=name, path=clip.path
            ),
        )
        return True

    monkeypatch.setattr("svd_local.batch.adoption._whole", whole)
    assert adopted() == 0
    (clip,) = catalog.clips()
    assert clip.present
    assert names(root / "out") == ["lesson 0.jpg", "lesson 0.mp4"]


def test_who_took_the_job_over_adopts_with_its_own_lease(
    adopted: Callable[..., int], catalog: Catalog
) -> None:
    batch = catalog.jobs.batch("night")
    (worker,) = catalog.jobs.workers(batch.id)
    catalog.jobs.release_dead(worker)
    lease = catalog.jobs.claim(batch.id, "next", lease_s=60)
    assert lease is not None
    assert adopted(lease=lease) == 1
    with pytest.raises(LeaseLost):
        catalog.jobs.heartbeat(lease)
    assert catalog.jobs.counts(batch.id) == {"done": 1}


def test_a_file_that_is_damaged_is_made_again(
    adopted: Callable[..., int], catalog: Catalog, root: Path
) -> None:
    video = root / "out" / "lesson 0.mp4"
    content = bytearray(video.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    video.write_bytes(content)
    assert adopted() == 0
    assert names(root / "out") == []
    catalog.close()
    run_batch(batches.settings(root, database_of(root)), SPECS, batches.options(root))
    assert batches.faults(root, SPECS, database_of(root)) == []


def test_another_clip_under_its_name_is_not_taken_for_it(
    adopted: Callable[..., int], catalog: Catalog, root: Path
) -> None:
    record = root / "out" / PART / "record"
    document = json.loads(record.read_text())
    document["clip"]["fingerprint"] = "f" * 64
    record.write_text(json.dumps(document))
    assert adopted() == 0
    assert catalog.clips() == []


def test_somebody_elses_or_a_cancelled_job_is_not_done_by_it(
    adopted: Callable[..., int], catalog: Catalog, root: Path
) -> None:
    catalog.jobs.cancel(catalog.jobs.batch("night").id)
    assert adopted() == 0
    assert names(root / "out") == []
    assert catalog.clips() == []


def test_a_forged_token_publishes_nothing(adopted: Callable[..., int], root: Path) -> None:
    change(root, token="0" * 32)
    assert adopted() == 0


def test_what_is_another_batchs_stays(adopted: Callable[..., int], root: Path) -> None:
    assert adopted(batch_id="0" * 26) == 0
    assert names(root / "out") == [PART, "lesson 0.jpg", "lesson 0.mp4"]


@pytest.mark.parametrize("record", [b"", b"{}", b"\xff\xfe", b'{"owner": 1}', b"[]"])
def test_a_record_that_cannot_be_read_is_nobodys(
    adopted: Callable[..., int], root: Path, record: bytes
) -> None:
    (root / "out" / PART / "record").write_bytes(record)
    assert adopted() == 0
    assert "lesson 0.mp4" in names(root / "out")


def test_one_that_died_after_its_row_keeps_both(
    adopted: Callable[..., int], catalog: Catalog, root: Path
) -> None:
    shutil.copytree(root / "out" / PART, root / "kept.part")
    adopted()
    shutil.copytree(root / "kept.part", root / "out" / PART)
    assert adopted() == 0
    assert names(root / "out") == ["lesson 0.jpg", "lesson 0.mp4"]
    assert len(catalog.clips()) == 1


def test_enrolling_draws_no_new_seed_for_a_job_that_has_one() -> None:
    (first,), (second,) = (list(new_jobs(SPECS)) for _ in range(2))
    assert first == second
