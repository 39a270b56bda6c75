"""What a database says when it fails, in our words. No password and no statement is repeated."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from svd_local.errors import DiskFull, StorageFailed

_SQLITE_HINTS = {
    sqlite3.SQLITE_BUSY: "Another program is writing to it; try again when that is done.",
    sqlite3.SQLITE_LOCKED: "Another program is writing to it; try again when that is done.",
    sqlite3.SQLITE_READONLY: "Give this user the right to write to the file and its folder.",
    sqlite3.SQLITE_PERM: "Give this user the right to read and write the file and its folder.",
    sqlite3.SQLITE_CANTOPEN: "Check that its folder exists and that this user may write to it.",
    sqlite3.SQLITE_CORRUPT: "Move the file away or restore a copy; the clips themselves are safe.",
    sqlite3.SQLITE_NOTADB: "Move the file away or restore a copy; the clips themselves are safe.",
}
_POSTGRESQL_FULL = "53100"
_SHARED_BYTES = 32 * 1024
_HINT = "Check the database, or name another with SVD_LOCAL_DATABASE_URL."


def place_of(url: URL) -> str:
    """Which database ``url`` names, fit to be shown: no password, and no options, which may hold one."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Within it, what SQLAlchemy raises becomes ``StorageFailed`` or ``DiskFull``, naming the database."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _failure(error, url) from error


def _failure(error: SQLAlchemyError, url: URL) -> StorageFailed:
    cause = error.orig if isinstance(error, DBAPIError) else error
    said = str(cause).strip() or type(cause).__name__
    if url.password:
        said = said.replace(str(url.password), "***")
    message = f"the catalog {place_of(url)} failed: {said}"
    # An extended result code keeps its family in the lowest byte.
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    full = code == sqlite3.SQLITE_FULL or getattr(cause, "sqlstate", None) == _POSTGRESQL_FULL
    if full or (code == sqlite3.SQLITE_IOERR and _is_full(url)):
        return DiskFull(message, hint="Free some space on the device the catalog is on.")
    return StorageFailed(message, hint=_SQLITE_HINTS.get(code, _HINT))


def _is_full(url: URL) -> bool:
    """Whether there is no room beside the file for the pages that SQLite shares between programs.

    It maps them into memory, and what has no room then is an input or output error to it.
    """
    with suppress(OSError, ValueError):
        return shutil.disk_usage(Path(str(url.database)).absolute().parent).free < _SHARED_BYTES
    return False
