"""The entry: real workers where they are asked for, this process where not."""

from __future__ import annotations

from servers.nights import spec

from svd_local.batch.events import WorkerStarted
from svd_local.batch.options import BatchOptions
from svd_local.batch.workers import supervise_batch
from svd_local.generator import VideoGenerator


def test_real_workers_make_clips_with_the_settings_of_this_process(settings, tmp_path):
    told = []
    options = BatchOptions("night", tmp_path / "out", poll_s=0.1)

    summary = supervise_batch(
        settings, [spec(number, "x") for number in range(3)], options, told.append, workers=2
    )

    assert (summary.exit_status, summary.batch.counts) == (0, {"done": 3})
    assert sum(worker.clips for worker in summary.workers) == 3
    started = [event for event in told if isinstance(event, WorkerStarted)]
    assert len({event.pid for event in started}) == 2
    assert {event.log.parent for event in started} == {settings.media_dir / "logs"}
    assert all(
        event.log.read_text().count("\n") == 1 for event in started
    )  # nothing to complain of


def test_without_workers_the_generator_at_hand_makes_them(settings, tmp_path):
    told = []
    with VideoGenerator(settings) as generator:
        summary = supervise_batch(
            settings,
            [spec(0, "x")],
            BatchOptions("night", tmp_path / "out"),
            told.append,
            generator=generator,
            workers=0,
        )

    assert (summary.exit_status, summary.workers) == (0, ())
    assert not any(isinstance(event, WorkerStarted) for event in told)
