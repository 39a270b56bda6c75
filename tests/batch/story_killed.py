"""Not a test: batches of two clips whose process dies, as by ``kill -9``, while it publishes the first.

    python story_killed.py FOLDER POINT...

There is a batch in FOLDER/POINT, and a process, for each POINT: just before the poster is moved out (publishing), after that (poster), after the video is (video),
after the row and the job's completion are committed (row).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from servers.databases import database_of

import svd_local.media.probe  # noqa: F401 - loaded once, before the children are forked
from svd_local.batch import BatchOptions, JobSpec, run_batch
from svd_local.catalog.store import Catalog
from svd_local.settings import Settings


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, point: str) -> None:
    rename, add = Path.rename, Catalog.add

    def moved(path: Path, target: Any) -> Path:
        suffix = Path(target).suffix
        if point == "publishing" and suffix == ".jpg":
            die()
        done = rename(path, target)
        if suffix == {"poster": ".jpg", "video": ".mp4"}.get(point):
            die()
        return done

    def added(catalog: Catalog, *arguments: Any, **options: Any) -> str:
        name = add(catalog, *arguments, **options)
        if point == "row":
            die()
        return name

    Path.rename, Catalog.add = moved, added  # type: ignore[method-assign, assignment]
    settings = Settings(
        _env_file=None,
        media_dir=folder / "media",
        database_url=database_of(folder),
        enable_fake_tier=True,
        models_dir=folder,
    )
    specs = [
        JobSpec(n + 1, n, f"{n:064x}", {"prompt": f"clip {n}", "tier": "fake"}, None, None)
        for n in range(2)
    ]
    options = BatchOptions("night", folder / "out", lanes=1, backoff_s=0.0, poll_s=0.05)
    run_batch(settings, specs, options)


if __name__ == "__main__":
    for one in sys.argv[2:]:
        child = os.fork()
        if child == 0:
            main(Path(sys.argv[1], one), one)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, one
