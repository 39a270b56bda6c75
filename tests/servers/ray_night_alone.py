"""A batch on a Ray cluster whose actors do as the prompts say (``scripted_worker``). Run by path.

Arguments: the cluster's address, the folder below which all is, and the prompts. Prints its events as
lines.
"""

from __future__ import annotations

import sys
from pathlib import Path

from servers.nights import spec
from servers.scripted_worker import generator

from svd_local.batch.control import Control
from svd_local.batch.options import BatchOptions
from svd_local.batch.ray.actor import Actor
from svd_local.batch.ray.cluster import Cluster
from svd_local.batch.ray.run import run_on
from svd_local.batch.ray.values import House
from svd_local.batch.workers.protocol import to_line
from svd_local.settings import Settings


class ScriptedActor(Actor):
    def __init__(self, house: House) -> None:
        super().__init__(house, generator)


if __name__ == "__main__":
    address, folder = sys.argv[1], Path(sys.argv[2])
    specs = [spec(number, prompt) for number, prompt in enumerate(sys.argv[3:])]
    options = BatchOptions("night", folder / "out", lanes=1, tries=2, poll_s=0.1, backoff_s=0.0)
    with Cluster(address, ScriptedActor) as cluster:
        summary = run_on(
            cluster,
            Settings.load(media_dir=folder / "media"),
            specs,
            options,
            lambda event: print(to_line(event), flush=True),
            Control(),
            restart_s=0.1,
        )
    sys.exit(summary.exit_status)
