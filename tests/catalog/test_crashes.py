"""A process that dies at any point, as by ``kill -9``, spoils nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers.databases import VARIABLE, database_of

from svd_local.catalog import Catalog
from svd_local.storage import sweep

HERE = Path(__file__).parent
CRASH_POINTS = HERE.parent / "storage" / "crash_points.py"


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request, monkeypatch):
    if request.param == "sqlite":
        return None
    url = request.getfixturevalue("postgres")
    monkeypatch.setenv(VARIABLE, url)
    return url


def deaths_of(story: str, folder: Path, server: str | None) -> list[str | None]:
    done = subprocess.run(
        [sys.executable, CRASH_POINTS, HERE / story, folder],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, VARIABLE: server or ""},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_publishing_leaves_clip_and_row_or_a_whole_file_or_leftovers(tmp_path, server):
    deaths = deaths_of("story_add.py", tmp_path, server)
    assert "added" in deaths
    assert server or any(death and "CREATE TABLE clips" in death for death in deaths)
    seen = set()
    for number, death in enumerate(deaths):
        folder = tmp_path / str(number)
        with Catalog(database_of(folder), folder) as catalog:
            rows = catalog.clips()
            sweep(folder / "videos", older_than_s=0)
            files = sorted(path.suffix for path in (folder / "videos").glob("*"))
            assert files in ([], [".jpg", ".mp4"]), death
            assert len(rows) <= bool(files), death
            assert all(row.present for row in rows), death
            assert (catalog.find("f") is not None) == bool(rows), death
        seen.add((len(files), len(rows)))
    assert seen == {(0, 0), (2, 0), (2, 1)}


def test_removing_finishes_later_or_never_began_and_spares_the_rest(tmp_path, server):
    deaths = deaths_of("story_remove.py", tmp_path, server)
    assert deaths.count("commit") == 2
    assert sum(bool(death) and "os.remove" in death for death in deaths) >= 3
    seen = set()
    for number, death in enumerate(deaths):
        folder = tmp_path / str(number)
        with Catalog(database_of(folder), folder) as catalog:
            titles = {clip.text for clip in catalog.clips()}
            assert all(clip.present for clip in catalog.clips()), death
        files = sorted(path.name for path in (folder / "videos").iterdir())
        kept = ["kept.jpg", "kept.json", "kept.mp4"]
        doomed = ["doomed.jpg", "doomed.json", "doomed.mp4"]
        assert (titles, files) in (
            ({"kept"}, kept),
            ({"kept", "doomed"}, doomed + kept),
        ), death
        seen.add(len(titles))
    assert seen == {1, 2}
