"""Which kind of manifest a path is: by its suffix, else by looking."""

from __future__ import annotations

import re
from pathlib import Path

from svd_local.batch.source.base import Source
from svd_local.batch.source.csv_rows import CsvSource
from svd_local.batch.source.json_rows import JsonSource
from svd_local.batch.source.pictures import FolderSource
from svd_local.batch.source.text import encoding_of
from svd_local.batch.source.yaml_rows import YamlSource
from svd_local.errors import InvalidRequest

_BY_SUFFIX: dict[str, type[CsvSource | JsonSource | YamlSource]] = {
    ".csv": CsvSource,
    ".tsv": CsvSource,
    ".jsonl": JsonSource,
    ".ndjson": JsonSource,
    ".json": JsonSource,
    ".yaml": YamlSource,
    ".yml": YamlSource,
}
_FOREIGN = {".xlsx", ".xls", ".ods", ".numbers"}
_YAML = re.compile(r"(?m)\A(?:\s*#.*\n|\s*\n|%YAML.*\n)*(?:---|-\s|defaults\s*:|jobs\s*:)")
_LOOKED_AT = 4096


def open_source(path: Path, encoding: str | None = None) -> Source:
    """The manifest at ``path``.

    Raises:
        InvalidRequest: there is none, or it is nothing that can be read as one.
    """
    if path.is_dir():
        return FolderSource(path)
    try:
        if not path.exists():
            raise InvalidRequest(
                f"the manifest {path} does not exist", hint="Check the path.", field="manifest"
            )
        if not path.is_file():
            raise InvalidRequest(
                f"the manifest {path} is neither a file nor a folder",
                hint="It is read more than once: write what comes through a pipe to a file first.",
                field="manifest",
            )
        if path.suffix.lower() in _FOREIGN:
            raise InvalidRequest(
                f"the manifest {path.name} is a spreadsheet's own file",
                hint="Save the sheet as CSV UTF-8.",
                field="manifest",
            )
        encoding = encoding_of(path, encoding)
        kind = _BY_SUFFIX.get(path.suffix.lower())
        if kind is None:
            with path.open(encoding=encoding) as file:
                kind = _look(file.read(_LOOKED_AT))
        return kind(path, encoding)
    except OSError as error:
        raise InvalidRequest(
            f"the manifest {path} cannot be read: {error.strerror}",
            hint="Check its permissions.",
            field="manifest",
        ) from error


def _look(head: str) -> type[CsvSource | JsonSource | YamlSource]:
    if head.lstrip().startswith(("{", "[")):
        return JsonSource
    return YamlSource if _YAML.match(head) else CsvSource
