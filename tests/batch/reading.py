"""What tests ask of a manifest."""

from __future__ import annotations

from collections.abc import Iterable

from svd_local.batch import JobSpec, Manifest, Problem


def jobs_of(manifest: Manifest) -> list[JobSpec]:
    """The jobs of a manifest in which nothing is wrong."""
    rows = list(manifest.rows())
    assert [row.problems for row in rows if row.problems] == []
    return [job for row in rows for job in row.jobs]


def problems_of(manifest: Manifest) -> list[Problem]:
    return [problem for row in manifest.rows() for problem in row.problems]


def told(problems: Iterable[Problem]) -> list[tuple[int, str | None]]:
    return [(problem.row, problem.field) for problem in problems]
