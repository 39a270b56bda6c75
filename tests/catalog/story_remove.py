"""Not a test: removes one clip of two; see ../storage/crash_points.py."""

import sys
from pathlib import Path

from sqlalchemy import Engine, event

sys.path.insert(0, str(Path(__file__).parent.parent))
from servers.databases import database_of

from svd_local.catalog import Catalog
from svd_local.result import Clip, Files


def prepare(folder):
    videos = folder / "videos"
    videos.mkdir()
    with Catalog(database_of(folder), folder) as catalog:
        for name in ("doomed", "kept"):
            files = Files(
                video=videos / f"{name}.mp4",
                poster=videos / f"{name}.jpg",
                manifest=videos / f"{name}.json",
            )
            for path in (files.video, files.poster, files.manifest):
                path.write_bytes(name.encode())
            clip = Clip("generated", files.video, "local", (), {}, files, fingerprint=name)
            catalog.add(clip, {"title": name})


def story(folder, point):
    event.listen(Engine, "before_cursor_execute", lambda c, cur, sql, *rest: point(sql[:40]))
    event.listen(Engine, "commit", lambda connection: point("commit"))
    with Catalog(database_of(folder), folder) as catalog:
        catalog.remove(clip for clip in catalog.clips() if clip.text == "doomed")
