"""``svd-local batch report``: what became of a batch, written into its folder and told in short."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from svd_local.cli._shared import emit, ending, load_settings, printable, tell

if TYPE_CHECKING:
    from svd_local.batch.report import ReportFiles


def show(
    name: str, *, folder: Path | None = None, sheets: bool = True, json_output: bool = False
) -> None:
    """The command: write the report of the batch called ``name``, and say where it is.

    ``folder`` is the batch's output folder unless given; without ``sheets`` the videos are not
    looked into. An exit status other than 0 means that there is no new report; what failed in the
    batch is in it.
    """
    from svd_local.batch.report import write_report
    from svd_local.catalog import Catalog

    with ending(json_output):
        settings = load_settings()
        with Catalog(settings.database_url, settings.media_dir) as catalog:
            batch = catalog.jobs.batch(name)
            files = write_report(
                catalog,
                batch,
                folder,
                sheets=sheets,
                reserve=settings.disk_reserve,
                progress=report_progress(),
            )
        if json_output:
            emit({"success": True, "batch": batch.to_json(), "report": files.to_json()})
        else:
            tell("\n".join(summary(files)))


def summary(files: ReportFiles) -> list[str]:
    """The report in a few lines, for the end of a batch as well."""
    from svd_local.batch.counting import counted
    from svd_local.batch.report.page import headline
    from svd_local.batch.report.words import number, percent, seconds, span

    figures = files.figures
    lines = [headline(figures)]
    if figures.made:
        share = figures.not_denoising_share
        lines.append(
            f"{span(figures.working_s)}, {number(figures.clips_per_hour)} videos an hour, "
            f"{seconds(figures.seconds_median)} of work on a video (95 of 100 within "
            f"{seconds(figures.seconds_p95)})"
            + ("" if share is None else f", {percent(share)} of the time not denoising")
        )
    # A name or a message from elsewhere must be nothing that a terminal obeys.
    lines += [
        f"  {reason.jobs:,} x {reason.code}: {printable(reason.message)}"
        for reason in figures.problems
    ]
    if files.short is not None:
        lines.append(
            f"{counted(files.without_sheets, 'video has', 'videos have')} no strip of frames in the report: "
            f"{printable(files.short)}. With more space svd-local batch report makes them."
        )
    return [*lines, f"report: {printable(str(files.html))}"]


def report_progress() -> Callable[[int, int], None] | None:
    """Says on a terminal how far it is; elsewhere nothing."""
    if not sys.stderr.isatty():
        return None
    from svd_local.batch.counting import counted

    def told(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        text = f"\rlooked at {done:,} of {counted(total, 'clip')}"
        print(text, end=end, file=sys.stderr, flush=True)

    return told
