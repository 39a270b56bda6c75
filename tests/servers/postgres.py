"""A private PostgreSQL for the tests: its own cluster in a temporary folder, on a Unix socket only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLACES = ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql")
_UNPRIVILEGED = ("postgres", "nobody")
_QUICK = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "listen_addresses": "",
    "shared_buffers": "16MB",
    "max_connections": "60",
}


def binaries() -> Path | None:
    """The folder of ``initdb`` and ``postgres``; None where they are not installed."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    found = [path for place in _PLACES for path in Path(place).glob("**/bin/initdb")]
    return max(found).parent if found else None


@contextmanager
def cluster(programs: Path) -> Iterator[str]:
    """Runs one; answers the SQLAlchemy URL of its database ``postgres``."""
    # Not in pytest's own folder: the server's user may not look into that.
    folder = Path(tempfile.mkdtemp(prefix="svd-pg-"))
    user = _server_user()
    data = folder / "data"
    if user is not None:
        os.chown(folder, user, -1)
    try:
        run(user, programs / "initdb", "-D", data, "-U", "svd", "-A", "trust", "-E", "UTF8", "-N")
        options = " ".join(f"-c {key}={value or chr(39) * 2}" for key, value in _QUICK.items())
        server = f"-k {folder} {options}"
        log = folder / "log"
        run(user, programs / "pg_ctl", "-D", data, "-w", "-l", log, "-o", server, "start")
        try:
            yield f"postgresql+psycopg://svd@/postgres?host={folder}"
        finally:
            run(user, programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _server_user() -> int | None:
    """Whom to run the server as: ``initdb`` refuses root. None: as ourselves."""
    if os.getuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise RuntimeError("no user to run PostgreSQL as")


def run(user: int | None, *words: object) -> None:
    done = subprocess.run(
        [str(word) for word in words],
        user=user,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed: {done.stderr}")
