"""Manifest: a list of clips to make, opened and ready to be gone through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from svd_local.batch.columns import KNOWN, did_you_mean
from svd_local.batch.expand import NUMBERED, Expansion, Row
from svd_local.batch.fields import Rules
from svd_local.batch.filling import MARK
from svd_local.batch.naming import OutputTemplate
from svd_local.batch.places import Ground, forget_links
from svd_local.batch.source import Source, open_source
from svd_local.errors import InvalidRequest


class Manifest:
    """An opened manifest. Its rows are read from the disk each time, one after the other.

    ``path`` is absolute; ``kind`` is ``csv``, ``jsonl``, ``yaml`` or ``folder``; ``notes`` say what
    whoever wrote it should know.
    """

    def __init__(self, path: Path, source: Source, rules: Rules) -> None:
        self.path = path
        self.kind = source.kind
        self.notes = source.notes
        self._source, self._rules = source, rules
        self._stamp = self._now()

    def rows(self) -> Iterator[Row]:
        """Every row with its jobs, or with what is wrong with it as far as the manifest itself
        tells. Pictures are not looked at; ``validate`` does that.

        Raises:
            InvalidRequest: the manifest has changed since it was opened.
        """
        self._require_unchanged()
        forget_links()
        try:
            yield from Expansion(self._source, self._rules).rows()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(
                f"the manifest {self.path} cannot be read any more: {error}",
                hint="Check the disk it is on, and run the command again.",
                field="manifest",
            ) from error
        self._require_unchanged()

    def _require_unchanged(self) -> None:
        if self._now() != self._stamp:
            raise InvalidRequest(
                f"the manifest {self.path} was changed while it was read",
                hint="Run the command again.",
                field="manifest",
            )

    def _now(self) -> tuple[int, ...] | None:
        """What tells one state of the file from another, where it is read again for each pass."""
        if self.kind not in ("csv", "jsonl"):
            return None
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


def read_manifest(
    path: Path | str,
    *,
    defaults: Mapping[str, Any] | None = None,
    output_template: str | None = None,
    allow_outside: bool = False,
    encoding: str | None = None,
) -> Manifest:
    """Open the manifest at ``path``; of its rows none is read yet, but where the format is YAML.

    Args:
        path: JSON Lines, CSV, YAML (5,000 rows at most), or a folder of pictures. The suffix says
            which; where it says nothing, the contents do.
        defaults: fields of ``ClipRequest``, ``count`` and ``priority`` for rows that do not give
            them. They go before a header's defaults. Paths count from the current folder.
        output_template: folders and name of each clip's files, as ``OutputTemplate.parse`` takes it.
        allow_outside: let the manifest's paths lead out of its own folder.
        encoding: of the text; None is UTF-8, or what the file's first bytes say.

    Raises:
        InvalidRequest: there is no such manifest, or it means nothing as a whole; what is wrong with
            single rows is told by ``validate``.
    """
    path = Path(path)
    path = path.resolve() if ".." in path.parts else path.absolute()
    source = open_source(path, encoding)
    output = None if output_template is None else OutputTemplate.parse(output_template)
    folder = path if path.is_dir() else path.parent
    options = dict(defaults or {})
    unknown = sorted(options.keys() - KNOWN)
    if unknown:
        raise InvalidRequest(
            f"{unknown[0]}: no such field", hint=did_you_mean(unknown[0]), field=unknown[0]
        )
    if source.kind == "csv" and not (KNOWN & (source.columns or {}).keys() or _fills_in(options)):
        names = ", ".join(source.columns or ())
        raise InvalidRequest(
            f"no column is a field of a clip: {names[:200]}",
            hint="The first line names the columns, for example: title,prompt,image",
            field="manifest",
        )
    ground = Ground(folder, fenced=not allow_outside)
    rules = Rules.of(source.defaults, ground, options, output, Path.cwd())
    if output is not None and source.columns is not None:
        there = {*source.columns, *source.defaults, *options, *NUMBERED}
        missing = sorted(output.columns - there)
        if missing:
            raise InvalidRequest(
                f"output_template: there is no column {missing[0]}",
                hint=did_you_mean(missing[0], there),
                field="output_template",
            )
    return Manifest(path, source, rules)


def _fills_in(options: Mapping[str, Any]) -> bool:
    """Whether options take something from a manifest's columns."""
    return any(MARK in str(value) for value in options.values())
