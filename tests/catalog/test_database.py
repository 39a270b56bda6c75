from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from servers.databases import sqlite_only
from sqlalchemy.exc import OperationalError

from svd_local.catalog import Catalog
from svd_local.catalog.database import Database
from svd_local.catalog.models import Base
from svd_local.catalog.schema import HEAD, VERSION_TABLE
from svd_local.errors import DiskFull, StorageFailed


@pytest.mark.parametrize(("query", "timeout_s"), [("", 10), ("&connect_timeout=3", 3)])
def test_a_server_that_falls_silent_is_given_up_soon(root, monkeypatch, query, timeout_s):
    asked = {}

    def connect(*arguments, **parameters):
        asked.update(parameters)
        raise psycopg.OperationalError("enough")

    monkeypatch.setattr(psycopg, "connect", connect)
    with (
        Catalog(f"postgresql+psycopg://svd@/x?host=/nowhere{query}", root) as catalog,
        pytest.raises(StorageFailed, match="enough"),
    ):
        catalog.open()
    assert int(asked["connect_timeout"]) == timeout_s
    patience_s = asked["keepalives_idle"] + asked["keepalives_count"] * asked["keepalives_interval"]
    assert patience_s <= 60
    assert asked["tcp_user_timeout"] <= 60_000


def test_the_migrations_make_what_the_models_say(catalog):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with catalog._ready().reading() as session:
        context = MigrationContext.configure(
            session.connection(), opts={"version_table": VERSION_TABLE}
        )
        assert compare_metadata(context, Base.metadata) == []
        assert context.get_current_revision() == HEAD


def test_the_known_version_is_the_last_migration():
    from pathlib import Path

    from alembic.script import ScriptDirectory

    import svd_local.catalog.schema as schema

    folder = Path(schema.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD


@sqlite_only
def test_sqlite_is_set_up_for_many_readers_and_a_patient_writer(root, catalog):
    catalog.open()
    with Database(None, root, 3.0).reading() as session:
        pragmas = {
            name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "busy_timeout": 3000,
        "foreign_keys": 1,
        "synchronous": 2,
    }


def test_processes_opening_a_new_catalog_at_once_all_succeed(tmp_path):
    script = (
        "import sys; from pathlib import Path; from svd_local.catalog import Catalog\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for number in range(5): Catalog(None, Path(sys.argv[1], str(number))).open()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 0, errors
    for number in range(5):
        with Catalog(None, tmp_path / str(number)) as catalog:
            assert catalog.clips() == []


def test_threads_may_share_a_catalog(catalog, make_clip):
    clips = [make_clip(f"video_{number}") for number in range(20)]
    failures = []

    def add(clip):
        try:
            catalog.add(clip, {})
            assert catalog.find(clip.fingerprint) is not None
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(clip,)) for clip in clips]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert catalog.stats()["clips"] == 20


@sqlite_only
def test_a_transaction_that_reads_first_waits_for_the_other_writer(root, catalog, make_clip):
    catalog.add(make_clip(), {})
    database = Database(None, root, 5.0)
    inside, go_on = threading.Event(), threading.Event()

    def first():
        with database.writing() as session:
            session.connection().exec_driver_sql("UPDATE clips SET text = 'a'")
            inside.set()
            go_on.wait(5)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(5)
    threading.Timer(0.2, go_on.set).start()
    with database.writing() as session:
        connection = session.connection()
        assert connection.exec_driver_sql("SELECT text FROM clips").scalar() == "a"
        connection.exec_driver_sql("UPDATE clips SET text = 'b'")
    thread.join()
    database.close()
    assert catalog.clips()[0].text == "b"


@sqlite_only
def test_a_locked_database_is_said_to_be_locked(root, catalog, make_clip):
    catalog.open()
    holder = sqlite3.connect(root / "catalog.sqlite3", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with Catalog(None, root, patience_s=0.1) as waiting:
        with pytest.raises(StorageFailed, match="locked") as caught:
            waiting.add(make_clip(), {})
        assert waiting.clips() == []
    holder.close()
    assert "try again" in caught.value.hint


@sqlite_only
def test_a_read_only_database_can_be_read_and_says_why_it_takes_no_row(root, catalog, make_clip):
    catalog.add(make_clip(), {})
    url = f"sqlite:///file:{root / 'catalog.sqlite3'}?mode=ro&uri=true"
    with Catalog(url, root) as reader:
        assert len(reader.clips()) == 1
        with pytest.raises(StorageFailed, match="readonly") as caught:
            reader.add(make_clip(), {})
    assert "right to write" in caught.value.hint


@pytest.mark.parametrize("damage", ["no database", "torn"])
def test_a_damaged_database_is_said_to_be_damaged(root, make_clip, damage):
    clip = make_clip()
    file = root / "catalog.sqlite3"
    if damage == "no database":
        file.write_bytes(b"These are not the tables you are looking for. " * 100)
    else:
        with Catalog(None, root) as catalog:
            catalog.add(clip, {"prompt": "x" * 50_000})
        content = bytearray(file.read_bytes())
        content[4096:] = b"\xa5" * (len(content) - 4096)
        file.write_bytes(content)
    with Catalog(None, root) as catalog:
        with pytest.raises(StorageFailed, match=str(file)) as caught:
            catalog.clips()
        with pytest.raises(StorageFailed):
            catalog.add(clip, {})
    assert "Move the file away" in caught.value.hint


@sqlite_only
def test_a_database_of_a_newer_version_is_left_alone(root, catalog, make_clip):
    catalog.add(make_clip(), {})
    catalog.close()
    file = root / "catalog.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    connection.close()
    before = file.read_bytes()
    with Catalog(None, root) as older, pytest.raises(StorageFailed, match="0999") as caught:
        older.clips()
    assert "Upgrade" in caught.value.hint
    assert file.read_bytes() == before


@sqlite_only
def test_a_full_disk_is_a_full_disk(root, catalog, make_clip):
    catalog.open()

    def small(connection, _record):
        connection.execute("PRAGMA max_page_count = 8")

    from sqlalchemy import event

    database = catalog._database
    event.listen(database._opened()[0], "connect", small)
    database._opened()[0].dispose()
    with pytest.raises(DiskFull, match="full"):
        catalog.add(make_clip(), {"prompt": "x" * 200_000})
    assert catalog.clips() == []


@sqlite_only
@pytest.mark.parametrize(("free", "error"), [(4096, DiskFull), (2**30, StorageFailed)])
def test_so_full_that_nothing_can_be_shared(root, catalog, monkeypatch, free, error):
    """SQLite then calls it an input or output error."""
    import shutil

    catalog.open()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 0, free))
    broken = sqlite3.OperationalError("disk I/O error")
    broken.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    with pytest.raises(StorageFailed) as caught, catalog._database.writing():
        raise OperationalError("SELECT 1", None, broken)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://teacher:s3cret@127.0.0.1:1/lessons?password=s3cret",
        "nonsense://teacher:s3cret@host/name",
        "teacher:s3cret",
        "sqlite://teacher:s3cret@host/name",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql+nodriver://teacher:s3cret@host/name",
    ],
)
def test_a_useless_url_is_refused_without_showing_its_password(tmp_path, url):
    def use():
        with Catalog(url, tmp_path) as catalog:
            catalog.clips()

    with pytest.raises(StorageFailed) as caught:
        use()
    assert "s3cret" not in caught.value.message + caught.value.hint
    assert caught.value.hint


def test_a_folder_that_cannot_be_made_is_named(tmp_path, make_clip):
    (tmp_path / "file").write_text("")
    with Catalog(None, tmp_path / "file" / "media") as catalog:
        assert catalog.clips() == []
        with pytest.raises(StorageFailed, match="file/media"):
            catalog.add(make_clip(), {})


@pytest.mark.parametrize("name", ["with space", "100% sure?", "ünïcödé#1"])
def test_any_folder_name_will_do(tmp_path, make_clip, name):
    with Catalog(None, tmp_path / name) as catalog:
        catalog.add(make_clip(), {})
        assert len(catalog.clips()) == 1
    assert (tmp_path / name / "catalog.sqlite3").is_file()


def test_databases_made_at_once_in_one_process_do_not_disturb_one_another(tmp_path):
    def made(number: int) -> list[object]:
        with Catalog(None, tmp_path / str(number)) as catalog:
            catalog.open()
            return catalog.clips()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(made, range(8))) == [[]] * 8
