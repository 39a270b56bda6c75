"""Ray nodes on this machine, on the loopback only: each a set of processes that can be killed whole."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

KEEPER = Path(__file__).with_name("ray_keeper.py")
_DEAD_S = 10.0


class Nodes:
    """A cluster's nodes; number 0 is its head.

    Attributes:
        address: of the head.
        environment: what processes need that are to connect.
    """

    def __init__(self, address: str, pids: list[list[int]], environment: dict[str, str]) -> None:
        self.address = address
        self.environment = environment
        self._pids = pids

    def kill(self, number: int) -> None:
        """SIGKILL for all processes of a node, and for all that they started."""
        tree: list[psutil.Process] = []
        for pid in self._pids[number]:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                tree += [process, *process.children(recursive=True)]
        for one in tree:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        give_up = time.monotonic() + _DEAD_S
        while any(map(_lives, tree)) and time.monotonic() < give_up:
            time.sleep(0.02)


def _lives(process: psutil.Process) -> bool:
    """A zombie, which waits for its parent, is dead."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def ray_nodes(*cpus: int, **settings: str) -> Iterator[Nodes]:
    """A cluster with a node of so many CPUs each, gone with the block; ``settings`` are its environment's."""
    # Not below pytest's folders: the sockets' paths may have some hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    environment = {
        **os.environ,
        "RAY_TMPDIR": str(folder),
        "TMPDIR": str(folder),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the loopback alone, as Ray does there
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **settings,
    }
    log = folder / "keeper.log"
    with log.open("w") as errors:
        keeper = subprocess.Popen(
            [sys.executable, str(KEEPER), *map(str, cpus)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert keeper.stdout is not None
    pids: list[list[int]] = []
    nodes = None
    try:
        lines = iter(keeper.stdout.readline, b"")
        said = next((line for line in lines if line.startswith(b"{")), None)
        assert said is not None, log.read_text()
        document = json.loads(said)
        pids = document["nodes"]
        nodes = Nodes(document["address"], pids, environment)
        yield nodes
    finally:
        if nodes is not None:
            for number in reversed(range(len(pids))):
                nodes.kill(number)
        keeper.kill()
        keeper.communicate()
        shutil.rmtree(folder, ignore_errors=True)
