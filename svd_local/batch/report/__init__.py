"""The morning after: what became of a batch, as a page, a table and a document.

- ``gather``    one pass over the catalog: every job, what it came to, its contact sheet
- ``entry``     a job as the report tells it
- ``figures``   what the jobs add up to
- ``page``      the HTML, in pages of ``PER_PAGE`` videos
- ``tables``    the CSV and the JSON
- ``words``     numbers, moments and paths as people and browsers read them
- ``room``      what it may take of the disk
- ``write``     all of it into the batch's output folder, whole or not at all

Nothing is held in memory that grows with the batch but the seconds of its clips and the
numbers of rows that have several: entries lie in a scratch file between gathering and writing.
"""

from __future__ import annotations

from svd_local.batch.report.entry import Entry
from svd_local.batch.report.gather import BatchReport
from svd_local.batch.report.write import ReportFiles, write_report

__all__ = ["BatchReport", "Entry", "ReportFiles", "write_report"]
