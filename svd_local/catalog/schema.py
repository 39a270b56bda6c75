"""The schema's version: looked at on opening, and raised by the migrations where it is behind.

Alembic is imported only then; an up-to-date database costs one query.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from svd_local.errors import StorageFailed

HEAD = "0006"
"""The last migration's name. They are numbered, so that a newer one can be told from an older."""
VERSION_TABLE = "svd_local_version"
_ADVISORY_LOCK = 0x5D0CA1
"""Any number, the same for all who migrate."""
_ALEMBIC = threading.Lock()
"""It keeps what it works on in globals: two databases of one process are migrated one after the other."""


def bring_up_to_date(engine: Engine, writer: Engine, place: str) -> None:
    """Migrate where needed. Of several processes one does it and the others wait.

    ``writer`` is ``engine`` taking the write lock at the beginning of a transaction; ``place`` is
    the database's name in messages.

    Raises:
        StorageFailed: the database was made by a newer version, or by another program.
    """
    with engine.connect() as connection:
        if _is_current(connection, place):
            return
    with writer.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        if not _is_current(connection, place):
            _upgrade(connection)


def _is_current(connection: Connection, place: str) -> bool:
    version = _version(connection)
    if version == HEAD:
        return True
    if version is None:
        return False
    if not version.isdecimal() or int(version) > int(HEAD):
        raise StorageFailed(
            f"the catalog {place} is of version {version}, and this svd_local knows {HEAD}",
            hint="Upgrade svd_local, or name another database with SVD_LOCAL_DATABASE_URL.",
        )
    return False


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, "head")
