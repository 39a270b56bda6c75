"""How many jobs of a batch are claimed and finished in a second, and what a batch adds to its clips.

    python -m benchmarks.batch_queue [--jobs N] [--workers N] [--clips N] [--json FILE]

Eight processes share one SQLite catalog. Each claims a job, publishes a small file in place of a
video (staged, flushed, renamed), and commits the clip's row with the job's completion: all that a batch
does for a clip but make and encode it. No job may be claimed twice, and every one must be done by a row
and a file of its own. Then the same processes make whole clips of the fake tier, encoded and decoded
back. At last one process makes clips with ``run_batch`` and with ``VideoGenerator.generate`` by turns;
the difference is what a batch adds. The aims are 50 jobs and 0.1 s. Writes results/batch_queue.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.options import count, run, target
from svd_local.catalog import Catalog
from svd_local.catalog.jobs import Lease, NewJob
from svd_local.result import Clip, Files
from svd_local.storage import Staging

# The workers that only claim import no more than that.
if TYPE_CHECKING:
    from svd_local.batch import JobSpec
    from svd_local.settings import Settings

RESULT = Path(__file__).resolve().parent / "results" / "batch_queue.json"
ALLOWED_PER_S, ALLOWED_ADDED_S = 50.0, 0.1
NAME = "benchmark"
FIELDS: dict[str, Any] = {"tier": "fake", "size": "256x144", "frames": 14, "steps": 1}


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=count, default=2000)
    parser.add_argument("--workers", type=count, default=8)
    parser.add_argument("--clips", type=count, default=64)
    parser.add_argument("--json", type=target, default=RESULT)
    arguments = parser.parse_args()
    result = measure(arguments.jobs, arguments.workers, arguments.clips)
    text = json.dumps(result, indent=2) + "\n"
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(text, encoding="utf-8")
    print(text, end="")


def measure(jobs: int, workers: int, clips: int) -> dict[str, Any]:
    """All three, each in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="svd-local-queue-") as name:
        root = Path(name)
        queue = unencoded(root / "queue", jobs, workers)
        whole = encoded(root / "whole", clips, workers)
        added = overhead(root / "added", clips)
    return {
        "benchmark": "batch_queue",
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "load_average": os.getloadavg()[0],
        },
        "versions": {
            "python": platform.python_version(),
            "sqlalchemy": version("sqlalchemy"),
            "sqlite": sqlite3.sqlite_version,
        },
        "workers": workers,
        "unencoded": queue,
        "whole_clips": whole,
        "added": added,
        "allowed": {"jobs_per_s": ALLOWED_PER_S, "added_s": ALLOWED_ADDED_S},
        "reached": queue["jobs_per_s"] >= ALLOWED_PER_S
        and queue["claimed_twice"] == 0
        and added["added_s"] <= ALLOWED_ADDED_S,
    }


def unencoded(root: Path, jobs: int, workers: int) -> dict[str, Any]:
    """Claim, publish a small file, commit, again."""
    root.mkdir()
    with Catalog(None, root) as catalog:
        new = [NewJob(f"{n:064x}", n + 1, n, {**FIELDS, "seed": n}) for n in range(jobs)]
        began = time.perf_counter()
        batch = catalog.jobs.enroll(NAME, new, folder=root / "out").batch
        enrol_s = time.perf_counter() - began
    seconds, claims = in_processes(claim_and_finish, workers, root, batch.id)
    times = Counter(job for claimed in claims for job in claimed)
    with Catalog(None, root) as catalog:
        done = catalog.jobs.jobs(batch.id, state="done", limit=None)
        rows = {clip.id: clip for clip in catalog.clips(limit=None)}
    assert len(done) == len(rows) == jobs
    assert {job.clip_id for job in done} == set(rows)
    assert all(clip.present for clip in rows.values())
    return {
        "jobs": jobs,
        "enrol_s": round(enrol_s, 3),
        "seconds": round(seconds, 3),
        "jobs_per_s": round(jobs / seconds, 1),
        "claimed_twice": sum(number > 1 for number in times.values()),
        "fewest_and_most_by_a_worker": [min(map(len, claims)), max(map(len, claims))],
    }


def claim_and_finish(root: Path, batch_id: str, name: str, ready: Barrier) -> list[int]:
    """One worker: the ids of the jobs it claimed."""
    claimed: list[int] = []
    with Catalog(None, root, patience_s=60) as catalog:
        catalog.open()
        ready.wait()
        while lease := catalog.jobs.claim(batch_id, name, lease_s=60):
            claimed.append(lease.job.id)
            publish(catalog, root, lease)
    return claimed


def publish(catalog: Catalog, root: Path, lease: Lease) -> None:
    """A small file as the clip, its row, and the job's end."""
    with Staging(root / "out") as staging:
        staging.write(".jpg", b"poster")
        staging.write(".mp4", f"video {lease.job.id}".encode())
        paths = staging.publish("synthetic_video", [".jpg", ".mp4"], record=b"{}")
        files = Files(paths[".mp4"], paths[".jpg"])
        clip = Clip("generated", paths[".mp4"], "fake", (), {}, files, fingerprint=lease.job.key)

        def joined(session: Any, clip_id: str) -> None:
            catalog.jobs.complete(session, lease, clip_id=clip_id, path=paths[".mp4"], cached=False)

        catalog.add(clip, lease.job.fields, joined=joined)


def encoded(root: Path, clips: int, workers: int) -> dict[str, Any]:
    """Whole fake clips, by as many processes of one batch."""
    settings = machine(root)
    seconds, _ = in_processes(make_clips, workers, root, str(clips))
    with Catalog(None, settings.media_dir) as catalog:
        counts = catalog.jobs.counts(catalog.jobs.batch(NAME).id)
    assert counts == {"done": clips}
    return {
        "clips": clips,
        "seconds": round(seconds, 3),
        "clips_per_s": round(clips / seconds, 2),
    }


def make_clips(root: Path, clips: str, name: str, ready: Barrier) -> list[int]:
    """One worker process of the whole batch, with one lane."""
    from svd_local.batch.options import BatchOptions
    from svd_local.batch.run import run_batch
    from svd_local.generator import VideoGenerator

    settings = machine(root)
    with VideoGenerator(settings) as generator:
        ready.wait()
        options = BatchOptions(NAME, root / "out", lanes=1, poll_s=0.1)
        run_batch(settings, specs(int(clips)), options, generator=generator)
    return []


def overhead(root: Path, clips: int) -> dict[str, Any]:
    """Seconds a clip by ``run_batch`` in one lane and by ``generate`` alone, by turns of eight clips."""
    from svd_local.batch.options import BatchOptions
    from svd_local.batch.run import run_batch
    from svd_local.generator import VideoGenerator

    settings = machine(root)
    portion, batch, alone = 8, [], []
    with VideoGenerator(settings) as generator:
        generator.generate(prompt="first", seed=1, **FIELDS)
        for turn in range(max(1, clips // portion)):
            some = specs(portion, first=1000 * turn)
            options = BatchOptions(f"{NAME} {turn}", root / "out", lanes=1)
            summary = run_batch(settings, some, options, generator=generator)
            assert summary.made == portion
            batch.append(summary.elapsed_s / portion)
            began = time.perf_counter()
            for spec in specs(portion, first=1000 * turn + 500):
                generator.generate(**spec.fields, out=root / "alone")
            alone.append((time.perf_counter() - began) / portion)
    added = [one - other for one, other in zip(batch, alone, strict=True)]
    return {
        "clips": portion * len(batch),
        "batch_s": round(statistics.median(batch), 4),
        "alone_s": round(statistics.median(alone), 4),
        "added_s": round(statistics.median(added), 4),
        "added_least_and_most_s": [round(min(added), 4), round(max(added), 4)],
    }


def specs(count: int, first: int = 0) -> list[JobSpec]:
    """Jobs of the fake tier, no two of them alike."""
    from svd_local.batch import JobSpec

    return [
        JobSpec(
            n + 1, n - first, f"{n:064x}", {**FIELDS, "prompt": f"p {n}", "seed": n}, None, None
        )
        for n in range(first, first + count)
    ]


def machine(root: Path) -> Settings:
    """A media root below ``root``, whose disk is never too full."""
    from svd_local.settings import Settings

    return Settings.load(media_dir=root / "media", enable_fake_tier=True, disk_reserve=0)


def in_processes(
    work: Callable[[Path, str, str, Barrier], list[int]], workers: int, root: Path, word: str
) -> tuple[float, list[list[int]]]:
    """Seconds from the moment when all processes are ready to the last one's end, and their answers."""
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(workers + 1), context.SimpleQueue()
    processes = [
        context.Process(target=_run, args=(work, root, word, f"w{n}", ready, answers))
        for n in range(workers)
    ]
    for process in processes:
        process.start()
    ready.wait(timeout=120)
    began = time.perf_counter()
    found = [answers.get() for _ in processes]
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return seconds, found


def _run(
    work: Callable[[Path, str, str, Barrier], list[int]],
    root: Path,
    word: str,
    name: str,
    ready: Barrier,
    answers: Any,
) -> None:
    answers.put(work(root, word, name, ready))


if __name__ == "__main__":
    run(main)
