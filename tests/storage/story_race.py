"""Not a test: publishes clips under one and the same timestamp: story_race.py FOLDER NAME COUNT."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from svd_local.storage import Staging

AT = datetime(2026, 1, 2, tzinfo=UTC)

folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    with Staging(folder) as staging:
        staging.write(".jpg", f"{name}-{number}".encode())
        staging.write(".mp4", f"{name}-{number}".encode())
        staging.publish("sd_video", (".jpg", ".mp4"), at=AT)
