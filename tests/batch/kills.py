"""Not a test: batches killed at random moments, as by ``kill -9``, and run again; see test_kills.py.

    python kills.py FOLDER COUNT SEED

The catalogs are on SQLite, or in schemas of the PostgreSQL that ``SVD_TEST_POSTGRES`` names.

Each kill has a batch of its own: two jobs of the fake tier in two lanes, run by a child that tells
through a pipe where its clips stand. Every third kill is aimed into a publication (from the moment the
file was checked to that at which its row is committed and its staging gone), the others anywhere
between a job's claim and its end, both over spans measured before, the former shortened where kills come too late; about every fifteenth is of an ffmpeg. Kills
go on until COUNT were made and a third of all fell within a publication. After each, another child
runs the same batch to its end, and what it came to is looked at. Prints JSON: the spans, and the kills.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))
import alembic.command  # noqa: F401 - loaded once, before the children are forked
import numpy  # noqa: F401
import PIL.Image  # noqa: F401
from helpers import batches
from servers.databases import database_of

import svd_local.media.probe  # noqa: F401
from svd_local.batch import events
from svd_local.batch.run import run_batch
from svd_local.catalog import Catalog

SPECS = [batches.spec(number) for number in range(2)]
FAKE_S = 0.1
_SHORTER = 0.8
"""What becomes of a publication's span where a kill aimed into it came too late."""


def run(root: Path, tell: Callable[[str], None]) -> None:
    """In a child: run the batch to its end."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(root / "tmp")

    def event(one: events.Event) -> None:
        if isinstance(one, events.JobBegun):
            tell("begun")
        elif isinstance(one, events.JobDone):
            tell("adopted" if one.adopted else "done")

    watch_publishing(tell)
    settings = batches.settings(root, database_of(root), fake_seconds=FAKE_S)
    summary = run_batch(settings, SPECS, batches.options(root, tries=9), event)
    tell(f"end {summary.exit_status}")


def watch_publishing(tell: Callable[[str], None]) -> None:
    """Tell when a clip's publication begins; the progress events come by way of another thread."""
    from svd_local.storage import Staging

    publish = Staging.publish

    def told(staging: Any, *args: Any, **options: Any) -> Any:
        tell("publish")
        return publish(staging, *args, **options)

    leave = Staging.__exit__

    def left(staging: Any, *error: Any) -> None:
        leave(staging, *error)
        tell("published")

    Staging.publish, Staging.__exit__ = told, left  # type: ignore[method-assign]


def fork(root: Path) -> tuple[int, int]:
    """A child that runs the batch, and what it tells."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    try:
        os.close(reading)
        run(root, lambda word: os.write(writing, f"{word}\n".encode()) and None)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def wait_for(reading: int, word: str, times: int) -> bool:
    """Read until ``word`` was told that often; false where the child ended before."""
    for _ in range(times):
        while True:
            line = read_line(reading)
            if not line:
                return False
            if line == word:
                break
    return True


def read_line(reading: int) -> str:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(reading, 1)
        if not byte:
            return ""
        line += byte
    return line.decode().strip()


def rest(reading: int) -> list[str]:
    """What was told up to the child's end."""
    words = []
    while word := read_line(reading):
        words.append(word)
    os.close(reading)
    return words


def kill_ffmpeg(child: int) -> bool:
    """Kill one ffmpeg of the child's, as soon as there is one."""
    until = time.monotonic() + 3
    while time.monotonic() < until:
        try:
            for process in psutil.Process(child).children(recursive=True):
                process.kill()
                return True
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.005)
    return False


def spans(root: Path) -> dict[str, float]:
    """How long a clip and a publication take, in a batch that nobody kills."""
    (root / "tmp").mkdir(parents=True)
    child, reading = fork(root)
    begun: list[float] = []
    clips: list[float] = []
    publishing: list[float] = []  # of both lanes at once, it may be
    publications: list[float] = []
    while word := read_line(reading):
        moment = time.monotonic()
        if word == "begun":
            begun.append(moment)
        elif word == "publish":
            publishing.append(moment)
        elif word == "published":
            clips.append(moment - begun[len(clips)])
            publications.append(moment - publishing.pop(0))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(reading)
    if status != 0:
        raise RuntimeError("a batch that nobody kills did not come to its end")
    return {"clip": max(clips), "publication": sorted(publications)[len(publications) // 2]}


def one_kill(
    folder: Path, number: int, aim: str, dice: random.Random, span: dict[str, float]
) -> dict[str, Any] | None:
    """One batch, killed once and run again; None where it had ended before the kill."""
    root = Path(tempfile.mkdtemp(prefix=f"{number}-", dir=folder))  # no schema is used twice
    (root / "tmp").mkdir(parents=True)
    victim = "ffmpeg" if number % 10 == 4 and aim == "clip" else "process"  # one that encodes
    job = dice.randint(1, len(SPECS))
    delay_s = dice.uniform(0, span[aim])
    child, reading = fork(root)
    reached = wait_for(reading, "publish" if aim == "publication" else "begun", job)
    select.select([], [], [], delay_s)
    if victim == "ffmpeg":
        reached = kill_ffmpeg(child) and reached
    else:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = rest(reading)
    if not reached or (victim == "process" and status != -signal.SIGKILL):
        shutil.rmtree(root)
        return None
    left = state(root)
    again, reading = fork(root)
    after = rest(reading)
    ended = os.waitstatus_to_exitcode(os.waitpid(again, 0)[1])
    wrong = batches.faults(root, SPECS, database_of(root))
    if ended != 0 or "end 0" not in after:
        wrong.append(f"the second run ended with {ended}, telling {after[-3:]}")
    wrong += [f"left over: {path}" for path in (root / "tmp").iterdir()]
    wrong += [f"left over: {path}" for path in (root / "media").glob(".svd-workers/*")]
    # The word of the publication aimed into was read already.
    open_ones = told.count("publish") + (aim == "publication") - told.count("published")
    return {
        "number": number,
        "aim": aim,
        "within_publication": victim == "process" and open_ones > 0,
        "victim": victim,
        "job": job,
        "delay_s": round(delay_s, 4),
        "left": left,
        "adopted": after.count("adopted"),
        "wrong": wrong,
    }


def state(root: Path) -> dict[str, int]:
    """What the death left behind."""
    out = root / "out"
    videos = len(list(out.rglob("*.mp4"))) - len(list(out.rglob(".svd-*/**/*.mp4")))
    with Catalog(database_of(root), root / "media") as catalog:
        rows = len(catalog.clips(limit=None))
    staging = len([path for path in out.rglob(".svd-*") if path.is_dir()])
    return {"videos": videos, "rows": rows, "staging": staging}


def main(folder: str, count: str, seed: str) -> None:
    dice, wanted = random.Random(int(seed)), int(count)
    measured = spans(Path(folder, "spans"))
    span = dict(measured)
    kills: list[dict[str, Any]] = []
    within = 0
    while len(kills) < wanted or 3 * within < len(kills):
        # Once there are enough, what is still missing are publications.
        aim = "publication" if len(kills) % 3 == 0 or len(kills) >= wanted else "clip"
        kill = one_kill(Path(folder), len(kills), aim, dice, span)
        if kill is None:
            continue
        kills.append(kill)
        within += kill["within_publication"]
        if aim == "publication" and not kill["within_publication"]:
            span[aim] *= _SHORTER  # it was measured on a busier machine
        print(".", end="", file=sys.stderr, flush=True)
    print(json.dumps({"spans_s": measured, "kills": kills}))


if __name__ == "__main__":
    main(*sys.argv[1:])
