"""``svd-local batch MANIFEST`` after validation: make the clips, write the report, say what it came to."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from svd_local.cli._shared import emit, failure, printable, say, tell
from svd_local.cli.batch_progress import batch_display
from svd_local.errors import Cancelled, InvalidRequest, JobsFailed, SvdLocalError

if TYPE_CHECKING:
    from svd_local.batch import BatchOptions, BatchSummary, JobSpec, Validation
    from svd_local.batch.events import EventCallback
    from svd_local.batch.pace import Hands
    from svd_local.batch.report import ReportFiles
    from svd_local.batch.skipped import Skipped
    from svd_local.catalog.jobs import State
    from svd_local.settings import Settings


@dataclass(frozen=True, slots=True)
class Ending:
    """What a run of a batch came to."""

    summary: BatchSummary
    report: ReportFiles | None
    """None where none was wanted, or none could be written, which was said."""
    skipped: Skipped | None
    """The rows that were left out as bad."""

    def tell(self, json_output: bool) -> None:
        """Say it, and end the command with its exit status.

        Raises:
            typer.Exit: always.
        """
        trouble = self._trouble()
        if json_output:
            document: dict[str, Any] = {"success": True} if trouble is None else failure(trouble)
            report = None if self.report is None else self.report.to_json()
            skipped = (
                {"rows": 0, "problems": []} if self.skipped is None else self.skipped.to_json()
            )
            own = {
                **self.summary.to_json(),
                "skipped_rows": skipped["rows"],
                "skipped": skipped["problems"],
                "report": report,
            }
            emit({**own, **document})
        else:
            self._for_people(trouble)
        raise typer.Exit(self.summary.exit_status)

    def _for_people(self, trouble: SvdLocalError | None) -> None:
        from svd_local.batch.counting import counted
        from svd_local.cli.batch_report import summary as of_report

        summary, counts = self.summary, self.summary.batch.counts
        done = counts.get("done", 0)
        text = (
            f"{done:,} of {counted(summary.batch.wanted, 'clip')} done, {summary.made:,} made now"
        )
        if summary.cached:
            text += f", {summary.cached:,} found in the catalog"
        if summary.adopted:
            text += f", {summary.adopted:,} adopted"
        if counts.get("cancelled"):
            text += f", {counts['cancelled']:,} cancelled"
        tell(printable(f"{text}, in {summary.elapsed_s:.0f} s: {summary.batch.folder}"))
        if self.skipped is not None:
            name = shlex.quote(summary.batch.name)
            tell(printable(f"{self.skipped}; svd-local batch status {name} says why"))
        if self.report is not None:
            tell("\n".join(of_report(self.report)))
        if trouble is not None:
            say(f"svd-local: {trouble.message}")
            say(trouble.hint)

    def _why_nobody_is_left(self) -> str:
        """The workers' reasons, each once."""
        reasons = dict.fromkeys(worker.set_aside for worker in self.summary.workers)
        return " ".join(f"{reason.rstrip('.')}." for reason in reasons if reason is not None)

    def _trouble(self) -> SvdLocalError | None:
        from svd_local.batch.counting import counted

        summary, name = self.summary, shlex.quote(self.summary.batch.name)
        if summary.exit_status == 0:
            return None
        if summary.exit_status == Cancelled.exit_status:
            return Cancelled("stopped before the end", hint="The same command goes on.")
        if not summary.failures:
            return JobsFailed(
                "no worker is left, and not all clips are made",
                hint=f"{self._why_nobody_is_left()} Logs of worker processes are in the media root, on "
                "a cluster among Ray's. What is left waits for the same command.",
            )
        return JobsFailed(
            f"{len(summary.failures):,} of {counted(summary.batch.wanted, 'clip')} "
            f"{'was' if len(summary.failures) == 1 else 'were'} given up",
            hint=f"svd-local batch status {name} says why, svd-local batch retry {name} tries again.",
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a batch runs: by processes of this machine, or on a Ray cluster."""

    ray: bool = False
    address: str | None = None
    """Of the cluster; see ``run_ray``."""
    workers: int | None = None
    gpus: Sequence[str] | None = None
    """By number or UUID; see ``supervise_batch``."""

    @classmethod
    def of(cls, runner: str, address: str | None, workers: int | None, gpus: str | None) -> Place:
        """As the options say it.

        Raises:
            InvalidRequest: there is no such runner, or it has no such option.
        """
        chosen = None if gpus is None else [one.strip() for one in gpus.split(",")]
        if runner not in ("local", "ray"):
            raise InvalidRequest(
                f"runner: {runner[:40]!r} is none", hint="Write local or ray.", field="runner"
            )
        if runner == "ray" and gpus is not None:
            raise InvalidRequest(
                "gpus: which GPUs a Ray cluster uses is said where its nodes are started",
                hint="Leave it out; --workers says how many are used.",
                field="gpus",
            )
        if runner == "local" and address is not None:
            raise InvalidRequest(
                "address: only a Ray cluster has one", hint="Add --runner ray.", field="address"
            )
        return cls(runner == "ray", address, workers, chosen)

    def hands(self, lanes: int) -> Hands:
        """Who would make the clips, as far as is known without asking a cluster.

        Raises:
            InvalidRequest: there are no such GPUs.
        """
        from svd_local.batch.pace import Hands
        from svd_local.batch.workers.places import choose_places

        there = self.workers if self.ray else len(choose_places(self.workers, self.gpus))
        return Hands(lanes, there or 1)

    def run(
        self,
        settings: Settings,
        specs: Iterable[JobSpec],
        options: BatchOptions,
        hear: EventCallback,
    ) -> BatchSummary:
        """Make the clips there."""
        if self.ray:
            from svd_local.batch.ray import run_ray

            with redirect_stdout(sys.stderr):  # Ray prints there what befalls its nodes
                return run_ray(
                    settings, specs, options, hear, address=self.address, workers=self.workers
                )
        from svd_local.batch.workers import supervise_batch

        return supervise_batch(settings, specs, options, hear, workers=self.workers, gpus=self.gpus)


def called_and_kept(
    manifest: Path, settings: Settings, name: str | None, out: str | None
) -> tuple[str, Path]:
    """The batch's name and its folder: one of its own below ``videos``, unless ``out`` or an earlier run
    of the batch says otherwise.

    Raises:
        StorageFailed: there is a catalog, and it cannot be read.
    """
    from svd_local.batch import batch_name
    from svd_local.batch.naming import safe_name, safe_text
    from svd_local.catalog import Catalog

    if out is not None:
        folder = Path(out).expanduser().resolve()
        return batch_name(manifest, folder) if name is None else name, folder
    called = batch_name(manifest, settings.videos_dir) if name is None else name
    with Catalog(settings.database_url, settings.media_dir) as catalog:
        known = [batch for batch in catalog.jobs.batches() if batch.name == called]
    if known:
        return called, Path(known[0].folder)
    return called, (settings.videos_dir / safe_name(safe_text(called))).absolute()


def over_already(settings: Settings, name: str) -> Mapping[str, State]:
    """The states of what the batch called ``name`` will not begin again, by the jobs' keys.

    Raises:
        StorageFailed: there is a catalog, and it cannot be read.
    """
    from svd_local.catalog import Catalog

    with Catalog(settings.database_url, settings.media_dir) as catalog:
        return catalog.jobs.over(name)


def make(
    found: Validation,
    settings: Settings,
    options: BatchOptions,
    place: Place,
    *,
    report: bool = True,
) -> Ending:
    """Make every good clip of a validated manifest.

    Args:
        found: the manifest, found sound.
        settings: the machine's.
        options: how the batch is run.
        place: where it runs.
        report: whether one is written at the end.

    Raises:
        InvalidRequest: there are no such GPUs, or no such cluster.
        StorageFailed: the folder or the catalog cannot be used.
    """
    from svd_local.storage import check_writable

    check_writable(options.folder, field="out")  # before even a catalog is made
    options = dataclasses.replace(options, skipped=found.skipped)
    with batch_display() as hear:
        summary = place.run(settings, found.specs(), options, hear)
    # Who has asked for the prompt twice does not wait for strips of frames.
    written = _report(settings, summary, sheets=not summary.stopped) if report else None
    return Ending(summary, written, found.skipped)


def _report(settings: Settings, summary: BatchSummary, *, sheets: bool) -> ReportFiles | None:
    from svd_local.batch.report import write_report
    from svd_local.catalog import Catalog
    from svd_local.cli.batch_report import report_progress

    try:
        with Catalog(settings.database_url, settings.media_dir) as catalog:
            return write_report(
                catalog,
                summary.batch,
                sheets=sheets,
                reserve=settings.disk_reserve,
                progress=report_progress(),
            )
    except SvdLocalError as error:
        say(printable(f"svd-local: no report was written: {error.message}. {error.hint}"))
    except KeyboardInterrupt:
        name = shlex.quote(summary.batch.name)
        say(f"svd-local: the report was broken off; svd-local batch report {name} writes it")
    return None
