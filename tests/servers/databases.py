"""Which databases a test runs on: SQLite, and PostgreSQL where its programs are installed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

VARIABLE = "SVD_TEST_POSTGRES"
"""In the environment of a test's own processes: the URL of the server's database ``postgres``."""

sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_either_server = pytest.mark.parametrize("server", ["sqlite", "postgresql"], indirect=True)
"""In the ordinary run too, for a test that is worth its time."""
postgres_only = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def database_of(folder: Path) -> str | None:
    """The URL of a database for ``folder`` alone: a schema in PostgreSQL where ``VARIABLE`` says so."""
    server = os.environ.get(VARIABLE)
    if not server:
        return None
    name = "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:20]
    with connected(server) as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
    url = make_url(server).update_query_dict({"options": f"-csearch_path={name}"})
    return url.render_as_string(hide_password=False)


def emptied(server: str) -> str:
    """The URL of a database that is used by one test after the other, without any rows."""
    url = make_url(server).set(database="shared")
    with connected(server) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'shared'")
        if known.fetchone() is None:
            connection.execute("CREATE DATABASE shared")
    text = url.render_as_string(hide_password=False)
    with connected(text) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            " AND tablename <> 'svd_local_version'"
        ).fetchall()
        if tables:
            connection.execute(f"TRUNCATE {', '.join(name for (name,) in tables)}")
    return text


def connected(url: str) -> psycopg.Connection:
    parts = make_url(url)
    return psycopg.connect(
        host=parts.query["host"], user=parts.username, dbname=parts.database, autocommit=True
    )
