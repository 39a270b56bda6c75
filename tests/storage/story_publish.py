"""Not a test: publishes one clip; see crash_points.py."""

from datetime import UTC, datetime

from svd_local.storage import Staging

AT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


def prepare(folder):
    # Another clip has the name already, so that the story passes over it.
    for suffix in (".mp4", ".jpg", ".json"):
        (folder / f"sd_video_20260102T030405678Z{suffix}").write_bytes(b"first")


def story(folder, point):
    with Staging(folder) as staging:
        staging.write(".json", b"manifest")
        staging.write(".jpg", b"poster")
        staging.path(".mp4").write_bytes(b"video")
        (staging.folder / "scratch.log").write_text("chatter")
        staging.publish("sd_video", (".json", ".jpg", ".mp4"), at=AT)
        point("row")
