"""Not a test: publishes a clip and adds its row, in a new folder; see ../storage/crash_points.py."""

import sys
from pathlib import Path

import alembic.command  # noqa: F401 - loaded once, before the children are forked
from sqlalchemy import Engine, event

sys.path.insert(0, str(Path(__file__).parent.parent))
from servers.databases import database_of

from svd_local.catalog import Catalog
from svd_local.result import Clip, Files
from svd_local.storage import Staging


def prepare(folder):
    # PostgreSQL makes its tables in one transaction; dying in it is tried on SQLite, which is quicker.
    url = database_of(folder)
    if url is not None:
        with Catalog(url, folder) as catalog:
            catalog.open()


def story(folder, point):
    event.listen(Engine, "before_cursor_execute", lambda c, cur, sql, *rest: point(sql[:40]))
    event.listen(Engine, "commit", lambda connection: point("commit"))
    with Catalog(database_of(folder), folder) as catalog, Staging(folder / "videos") as staging:
        staging.write(".jpg", b"poster")
        staging.write(".mp4", b"video")
        paths = staging.publish("sd_video", (".jpg", ".mp4"))
        files = Files(paths[".mp4"], paths[".jpg"])
        clip = Clip("generated", files.video, "local", (), {}, files, fingerprint="f")
        catalog.add(clip, {"title": "lesson"})
        point("added")
