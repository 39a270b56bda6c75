"""Connections and transactions: SQLite as it should be set up, any other database by its URL."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from svd_local.catalog.faults import explained, place_of
from svd_local.catalog.schema import bring_up_to_date
from svd_local.errors import StorageFailed

FILE_NAME = "catalog.sqlite3"
_WRITES = "svd_local_writes"
_LASTS = "svd_local_lasts"

_ALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""For PostgreSQL (libpq's connection parameters): a server or a network that is gone is found out in a
minute. By the system's own defaults a night's batch would wait for two hours."""


class Database:
    """One database, opened on first use and brought up to date then; thread-safe.

    Args:
        url: SQLAlchemy's URL; None is SQLite in the media root.
        media_root: where the clips are.
        patience_s: how long to wait for another program's lock.

    Raises:
        StorageFailed: the URL means nothing or its driver is missing; from every method also where
            the database cannot be used.
    """

    def __init__(self, url: str | None, media_root: Path, patience_s: float) -> None:
        self.url = _parse(url, media_root)
        self._patience_s = patience_s
        self._opening = threading.Lock()
        self._engine: Engine | None = None
        self._writer: Engine | None = None

    @property
    def exists(self) -> bool:
        """False for an SQLite file that nothing was ever written to; reading need not make it."""
        if self.url.get_backend_name() != "sqlite" or self._engine is not None:
            return True
        name = str(self.url.database)
        return name.startswith("file:") or Path(name).exists()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database and changes nothing."""
        with explained(self.url), Session(self._readable()) as session:
            yield session

    @contextmanager
    def writing(self, *, lasting: bool = True) -> Iterator[Session]:
        """A session that is committed at its end, or undone by an exception.

        On SQLite it takes the write lock at once: a transaction that reads first and writes later
        would be refused without waiting. One that is not ``lasting`` survives the death of every
        process, but perhaps not a power failure: the device is not waited for.
        """
        engine = self._opened()[1].execution_options(**{_LASTS: lasting})
        with explained(self.url), Session(engine) as session, session.begin():
            if not lasting and session.get_bind().dialect.name == "postgresql":
                session.execute(text("SET LOCAL synchronous_commit = off"))
            yield session

    def close(self) -> None:
        """Give back the connections; the next use opens anew."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = self._writer = None

    def _readable(self) -> Engine:
        engine = self._opened()[0]
        if engine.dialect.name != "postgresql":
            return engine
        # By itself each statement there sees what was committed by then.
        return engine.execution_options(isolation_level="REPEATABLE READ")

    def _opened(self) -> tuple[Engine, Engine]:
        with self._opening:
            if self._engine is None or self._writer is None:
                engine = self._connectable()
                writer = engine.execution_options(**{_WRITES: True})
                try:
                    bring_up_to_date(engine, writer, place_of(self.url))
                except BaseException:
                    engine.dispose()
                    raise
                self._engine, self._writer = engine, writer
            return self._engine, self._writer

    def _connectable(self) -> Engine:
        if self.url.get_backend_name() != "sqlite":
            try:
                arguments = {
                    name: value for name, value in _ALIVE.items() if name not in self.url.query
                }
                driver = self.url.get_driver_name()
                return create_engine(
                    self.url,
                    pool_pre_ping=True,
                    connect_args=arguments if driver.startswith("psycopg") else {},
                )
            except ImportError as error:
                raise StorageFailed(
                    f"the catalog {place_of(self.url)} needs the driver {error.name}",
                    hint=f"Install it: pip install {error.name}",
                ) from error
        if not str(self.url.database).startswith("file:"):
            folder = Path(str(self.url.database)).parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageFailed(
                    f"the catalog's folder {folder} cannot be made: {error.strerror}",
                    hint="Choose another with SVD_LOCAL_MEDIA_DIR or SVD_LOCAL_DATABASE_URL.",
                ) from error
        engine = create_engine(self.url, connect_args={"timeout": self._patience_s})
        event.listen(engine, "connect", self._set_up)
        event.listen(engine, "begin", _begin)
        return engine

    def _set_up(self, connection: sqlite3.Connection, _record: Any) -> None:
        # The driver's own transactions begin too late and never IMMEDIATE; ours begin in _begin.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        give_up = time.monotonic() + self._patience_s
        while True:
            try:
                _write_ahead(connection)
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself where two processes switch a new file at once.
                busy = error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
                if not busy or time.monotonic() > give_up:
                    raise
            time.sleep(0.01)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Readers and the one writer then do not wait for each other. The file remembers it."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get(_WRITES, False):
        connection.exec_driver_sql("BEGIN")
        return
    # The next commit that waits for the device takes with it what those before did not wait for.
    lasts = options.get(_LASTS, True)
    connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if lasts else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _parse(url: str | None, media_root: Path) -> URL:
    if url is None:
        return URL.create("sqlite", database=str(media_root.absolute() / FILE_NAME))
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, ImportError, ValueError) as error:
        # SQLAlchemy's own words may repeat the URL, and with it the password.
        missing = error.name if isinstance(error, ImportError) else None
        raise StorageFailed(
            "SVD_LOCAL_DATABASE_URL names no database"
            + (f" that can be used here: {missing} is not installed" if missing else ""),
            hint="Write it as sqlite:////absolute/path or postgresql+psycopg://user@host/name.",
        ) from None
    if parsed.get_backend_name() == "sqlite" and (
        parsed.host or parsed.database in {None, "", ":memory:"}
    ):
        raise StorageFailed(
            "SVD_LOCAL_DATABASE_URL names no SQLite file",
            hint="Three slashes go before a relative path, four before an absolute one.",
        )
    return parsed
