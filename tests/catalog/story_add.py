"""Not a test: publishes a clip and adds its row, in a new folder; see ../storage/crash_points.py."""

from sqlalchemy import Engine, event

from svd_local.catalog import Catalog
from svd_local.result import Clip, Files
from svd_local.storage import Staging


def story(folder, point):
    event.listen(Engine, "before_cursor_execute", lambda c, cur, sql, *rest: point(sql[:40]))
    event.listen(Engine, "commit", lambda connection: point("commit"))
    with Catalog(None, folder) as catalog, Staging(folder / "videos") as staging:
        staging.write(".jpg", b"poster")
        staging.write(".mp4", b"video")
        paths = staging.publish("sd_video", (".jpg", ".mp4"))
        files = Files(paths[".mp4"], paths[".jpg"])
        clip = Clip("generated", files.video, "local", (), {}, files, fingerprint="f")
        catalog.add(clip, {"title": "lesson"})
        point("added")
