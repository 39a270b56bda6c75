"""Not a test: a batch of two jobs, one lane; see ../storage/crash_points.py.

Steps are also every statement and commit on the database. ``prepare`` can leave what another death
left, named in the environment: an orphan to adopt, or a job that is taken away while it is published.
"""

import os
import sys
from pathlib import Path

import alembic.command  # noqa: F401 - loaded once, before the children are forked
import numpy  # noqa: F401
import PIL.Image  # noqa: F401
from sqlalchemy import Engine, event

sys.path.insert(0, str(Path(__file__).parent.parent))
from helpers import batches
from servers.databases import database_of

import svd_local.media.probe  # noqa: F401
from svd_local.batch.run import run_batch
from svd_local.catalog import Catalog
from svd_local.storage import Staging

ORPHAN = "SVD_TEST_ORPHAN"
TAKEN = "SVD_TEST_TAKEN"
SPECS = [batches.spec(number) for number in range(2)]


def prepare(folder):
    url = database_of(folder)
    if url is not None:
        with Catalog(url, folder / "media") as catalog:
            catalog.open()
    if os.environ.get(ORPHAN):
        child = os.fork()
        if child == 0:
            story(folder, die_before_the_row)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 77


def story(folder, point):
    event.listen(Engine, "before_cursor_execute", lambda c, cur, sql, *rest: point(sql[:300]))
    event.listen(Engine, "commit", lambda connection: point("commit"))
    url = database_of(folder)
    if os.environ.get(TAKEN):
        publish = Staging.publish

        def taken(staging, *args, **options):
            paths = publish(staging, *args, **options)
            point("published")
            with Catalog(url, folder / "media") as catalog:
                catalog.jobs.cancel(catalog.jobs.batch("night").id)
            return paths

        Staging.publish = taken
    # Leases are short, so that there are heartbeats, and clips take a moment for them.
    settings = batches.settings(folder, url, fake_seconds=0.3)
    run_batch(settings, SPECS, batches.options(folder, lanes=1, lease_s=1, tries=99))
    point("over")


def die_before_the_row(name):
    if name.startswith("INSERT INTO clips"):
        os._exit(77)
