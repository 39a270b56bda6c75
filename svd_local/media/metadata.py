"""ffmpeg's text form of a container's tags, "ffmetadata".

Tags travel in a file, not in arguments: some systems take no more than 32 KB of arguments.
"""

from __future__ import annotations

import re

from svd_local.errors import MediaFailed

_HEADER = ";FFMETADATA1\n"


def dump(comment: str) -> bytes:
    """The file's text that sets the tag ``comment``.

    Raises:
        MediaFailed: ``comment`` holds what no container can: NUL, or half a surrogate pair.
    """
    if "\0" in comment:
        raise MediaFailed("a comment cannot hold the character NUL", hint="Leave it out.")
    escaped = re.sub(r"([=;#\\\r\n])", r"\\\1", comment)
    try:
        # No line break at the end: after a backslash ffmpeg would take it into the comment.
        return f"{_HEADER}comment={escaped}".encode()
    except UnicodeEncodeError as error:
        raise MediaFailed(
            f"a comment cannot hold {error.object[error.start]!r}", hint="Leave it out."
        ) from error


def load_comment(text: bytes) -> str:
    """The tag ``comment`` of the whole file in ffmpeg's text form; empty where there is none."""
    for line in _lines(text.decode(errors="replace")):
        if line.startswith("["):  # tags of a stream or a chapter follow
            break
        key, separator, value = line.partition("=")
        if separator and key.lower() == "comment":
            return re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
    return ""


def _lines(text: str) -> list[str]:
    """Lines; a line break after a backslash belongs to the line."""
    return re.findall(r"(?:[^\\\n]|\\.)+", text, flags=re.DOTALL)
