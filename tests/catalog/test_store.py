from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from servers.databases import postgres_only, sqlite_only
from sqlalchemy.exc import OperationalError

from svd_local.catalog import Catalog
from svd_local.catalog.models import ClipRow
from svd_local.errors import CommitUnknown, NotFound, StorageFailed
from svd_local.result import Timings

REQUEST = {"prompt": "Handling price objections", "title": "Lesson 3: Ünïcödé", "frames": 40}
FINGERPRINT = "f" * 64


def test_a_clip_comes_back_as_it_was_but_cached(catalog, make_clip):
    clip = make_clip()
    name = catalog.add(clip, REQUEST)
    found = catalog.find(FINGERPRINT).to_clip()
    assert found == dataclasses.replace(
        clip, id=name, cached=True, elapsed_s=0.0, attempts=(), timings=Timings()
    )


def test_a_row_keeps_what_was_asked_and_what_happened(catalog, make_clip):
    clip = make_clip()
    name = catalog.add(clip, REQUEST)
    document = catalog.get(name).to_json()
    assert document["request"] == REQUEST
    assert document["text"] == REQUEST["title"]
    assert document["sha256"] == hashlib.sha256(b"video").hexdigest()
    assert document["bytes"] == 5
    assert document["present"] is True
    assert document["result"]["timings"]["denoise_s"] == 6.0
    assert document["result"]["attempts"] == [clip.attempts[0].to_json()]
    assert document["files"] == clip.files.to_json()


def test_the_media_root_may_move_with_its_catalog(catalog, make_clip, root, tmp_path, database_url):
    catalog.add(make_clip(), REQUEST)
    catalog.close()
    moved = tmp_path / "elsewhere" / "media"
    shutil.move(root, moved)
    with Catalog(database_url, moved) as there:
        found = there.find(FINGERPRINT)
    assert found.path == moved / "videos" / "sd_video_1.mp4"
    assert found.files.poster == moved / "videos" / "sd_video_1.jpg"


def test_a_clip_outside_the_media_root_keeps_its_absolute_path(catalog, make_clip, tmp_path):
    clip = make_clip(folder=tmp_path / "out")
    catalog.add(clip, REQUEST)
    assert catalog.find(FINGERPRINT).path == tmp_path / "out" / "sd_video_1.mp4"


def test_a_root_reached_by_a_link_is_the_same_root(catalog, make_clip, root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    clip = make_clip()
    seen = tmp_path / "link" / "videos" / clip.path.name
    catalog.add(dataclasses.replace(clip, path=seen), REQUEST)
    assert catalog.find(FINGERPRINT).path == clip.path


@pytest.mark.parametrize("change", ["missing", "longer", "same length"])
def test_a_file_missing_or_altered_is_no_hit_and_its_row_stays(catalog, make_clip, change):
    clip = make_clip()
    name = catalog.add(clip, REQUEST)
    if change == "missing":
        clip.path.unlink()
    else:
        clip.path.write_bytes(b"video and more" if change == "longer" else b"VIDEO")
    assert catalog.find(FINGERPRINT) is None
    assert catalog.get(name).present is (change == "same length")


def test_an_older_clip_answers_where_the_newest_is_gone(catalog, make_clip):
    older = make_clip("sd_video_1")
    newest = make_clip("sd_video_2")
    catalog.add(older, REQUEST, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    catalog.add(newest, REQUEST, created_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert catalog.find(FINGERPRINT).path == newest.path
    newest.path.unlink()
    assert catalog.find(FINGERPRINT).path == older.path


def test_another_fingerprint_is_no_hit(catalog, make_clip):
    catalog.add(make_clip(), REQUEST)
    catalog.add(make_clip("sd_video_2", fingerprint=None), REQUEST)
    assert catalog.find("e" * 64) is None


def test_a_placeholder_is_never_a_row(catalog, make_clip):
    with pytest.raises(ValueError, match="placeholder"):
        catalog.add(make_clip(kind="placeholder"), REQUEST)
    assert catalog.clips() == []


def test_a_clip_whose_file_is_gone_is_not_added(catalog, make_clip):
    clip = make_clip()
    clip.path.unlink()
    with pytest.raises(StorageFailed, match="sd_video_1"):
        catalog.add(clip, REQUEST)
    assert catalog.clips() == []


def test_lists_newest_first_and_by_tier_kind_and_time(catalog, make_clip):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    names = [
        catalog.add(
            make_clip(
                f"video_{day}",
                tier="webui" if day % 2 else "local",
                kind="animated-stills" if day % 2 else "generated",
            ),
            REQUEST,
            created_at=start + timedelta(days=day),
        )
        for day in range(5)
    ]
    assert [clip.id for clip in catalog.clips()] == names[::-1]
    assert [clip.id for clip in catalog.clips(limit=2)] == names[:2:-1]
    assert [clip.id for clip in catalog.clips(tier="webui")] == [names[3], names[1]]
    assert [clip.id for clip in catalog.clips(kind="generated", limit=1)] == [names[4]]
    assert [clip.id for clip in catalog.clips(since=start + timedelta(days=3))] == names[:2:-1]
    assert names == sorted(names)


def test_a_moment_is_the_same_in_any_time_zone(catalog, make_clip):
    tokyo = timezone(timedelta(hours=9))
    moment = datetime(2026, 1, 1, 8, 30, tzinfo=tokyo)
    name = catalog.add(make_clip(), REQUEST, created_at=moment)
    assert catalog.get(name).created_at == moment
    assert catalog.get(name).summary()["created_at"] == "2025-12-31T23:30:00.000+00:00"
    assert catalog.clips(since=moment.astimezone(UTC))
    assert not catalog.clips(since=moment + timedelta(seconds=1))


def test_the_beginning_of_a_name_is_enough_where_it_is_the_only_one(catalog, make_clip):
    one = catalog.add(make_clip(), REQUEST, created_at=datetime(2024, 1, 1, tzinfo=UTC))
    catalog.add(make_clip("sd_video_2"), REQUEST, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert catalog.get(one[:8]).id == one
    assert catalog.get(f" {one[:8].upper()} ").id == one
    with pytest.raises(NotFound, match="more than one"):
        catalog.get("0")
    for nothing in ("zzz", "%", "_" * 26, "", "' OR 1=1"):
        with pytest.raises(NotFound, match="no clip"):
            catalog.get(nothing)


def test_figures_by_tier_checkpoint_and_speed(catalog, make_clip):
    waited = Timings(load_s=0.5, denoise_s=0.1, waited_s=100.0, turn_s=0.75)
    for seconds in range(1, 21):
        clip = make_clip(f"a{seconds}", elapsed_s=100.0 + seconds, timings=waited)
        catalog.add(clip, REQUEST)
    stills = {"kind": "animated-stills", "tier": "image-sequence", "checkpoint": None}
    catalog.add(make_clip("b", b"longer video", elapsed_s=0.5, duration_s=4.0, **stills), REQUEST)
    stats = catalog.stats()
    assert stats["clips"] == 21
    assert stats["bytes"] == 20 * 5 + 12
    assert stats["duration_s"] == pytest.approx(20 * 3.571 + 4.0)
    assert stats["by_kind"] == {"animated-stills": 1, "generated": 20}
    first, second = stats["groups"]
    assert (first["tier"], first["checkpoint"]) == ("image-sequence", None)
    assert (first["seconds_median"], first["seconds_p95"]) == (0.5, 0.5)
    assert (second["tier"], second["checkpoint"], second["speed"]) == ("local", "svd-xt", "exact")
    assert (second["clips"], second["bytes"]) == (20, 100)
    assert (second["seconds_median"], second["seconds_p95"]) == (10.5, 19.0)
    assert (second["warm_median"], second["turn_median"]) == (10.0, 0.25)
    assert second["load_median"] == 0.5


def test_seconds_of_clips_that_older_versions_wrote_down(catalog, make_clip):
    """They knew no waiting, and counted it; what they knew of the phases is all that was work."""
    phases = {"load_s": None, "keyframe_s": 0.5, "encode_image_s": 0.5, "denoise_s": 6.0}
    older = {**phases, "decode_s": 1.0, "encode_video_s": 2.0}
    name = catalog.add(make_clip(elapsed_s=18.0), REQUEST)
    with catalog._ready().writing() as session:
        row = session.get_one(ClipRow, name)
        row.document = {**row.document, "timings": older}
    assert catalog.get(name).worked_s == 10.0
    (group,) = catalog.stats()["groups"]
    assert (group["seconds_median"], group["warm_median"], group["turn_median"]) == (
        10.0,
        10.0,
        7.5,
    )


@sqlite_only
def test_reading_makes_no_database(catalog, root):
    assert catalog.find(FINGERPRINT) is None
    assert catalog.clips() == catalog.older_than(0) == catalog.remove([]) == []
    assert catalog.stats()["clips"] == 0
    assert catalog.stats()["groups"] == []
    with pytest.raises(NotFound):
        catalog.get("0")
    assert not root.exists()


def test_importing_the_package_loads_no_database_library():
    script = (
        "import sys, svd_local.catalog, svd_local.storage\n"
        "assert 'sqlalchemy' not in sys.modules\n"
        "svd_local.catalog.Catalog\n"
        "assert 'sqlalchemy' in sys.modules and 'alembic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_whose_answer_was_lost_counts_if_it_was_made(
    catalog, make_clip, monkeypatch, committed
):
    catalog.open()
    dialect = catalog._database._opened()[1].dialect
    real, lost = dialect.do_commit, OperationalError("COMMIT", None, OSError("connection lost"))

    def do_commit(connection):
        monkeypatch.undo()
        if committed:
            real(connection)
        raise lost

    monkeypatch.setattr(dialect, "do_commit", do_commit)
    if committed:
        name = catalog.add(make_clip(), REQUEST)
        assert catalog.get(name).present
    else:
        with pytest.raises(StorageFailed, match="connection lost"):
            catalog.add(make_clip(), REQUEST)
        assert catalog.clips() == []


@postgres_only
def test_a_commit_that_the_server_is_still_at_is_waited_for(catalog, make_clip, monkeypatch):
    catalog.open()
    dialect = catalog._database._opened()[1].dialect
    late = []

    def do_commit(connection):
        monkeypatch.undo()
        driver = connection.dbapi_connection
        # As when the connection breaks: nothing more is said over it, and the server goes on.
        for name in ("do_rollback", "do_close", "do_terminate"):
            monkeypatch.setattr(dialect, name, lambda given: None)
        monkeypatch.setattr(dialect, "is_disconnect", lambda *what: True)
        late.append(threading.Timer(1.0, lambda: (driver.commit(), driver.close())))
        late[0].start()
        raise psycopg.OperationalError("connection lost")

    monkeypatch.setattr(dialect, "do_commit", do_commit)
    name = catalog.add(make_clip(), REQUEST)
    monkeypatch.undo()
    late[0].join()
    assert catalog.get(name).present


def test_what_became_of_a_commit_is_not_known_where_nobody_can_be_asked(
    catalog, make_clip, monkeypatch
):
    catalog.open()
    dialect = catalog._database._opened()[1].dialect

    def do_commit(connection):
        for name in ("reading", "writing"):
            monkeypatch.setattr(catalog._database, name, gone)
        raise OperationalError("COMMIT", None, OSError("connection lost"))

    def gone(**options):
        raise StorageFailed("no answer")

    monkeypatch.setattr("svd_local.catalog.store._ASKING_S", 0.0)
    monkeypatch.setattr(dialect, "do_commit", do_commit)
    with pytest.raises(CommitUnknown, match=r"sd_video_1\.mp4 .* connection lost"):
        catalog.add(make_clip(), REQUEST)


def test_what_is_joined_is_committed_with_the_row_or_neither(catalog, make_clip):
    seen = []
    name = catalog.add(make_clip(), REQUEST, joined=lambda session, row: seen.append(row))
    assert seen == [name]

    def refuse(session, row):
        raise LookupError(row)

    with pytest.raises(LookupError):
        catalog.add(make_clip("other"), REQUEST, joined=refuse)
    assert [clip.id for clip in catalog.clips()] == [name]


def test_a_clip_is_found_by_its_file(catalog, make_clip, root):
    clip = make_clip()
    name = catalog.add(clip, REQUEST)
    assert catalog.at(clip.path).id == name
    assert catalog.at(root / "videos" / "other.mp4") is None
