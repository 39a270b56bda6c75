"""Where ffmpeg is. Looking for it starts no program."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from svd_local.errors import MediaFailed

REINSTALL_HINT = "Install it anew with `pip install --force-reinstall imageio-ffmpeg`, or set IMAGEIO_FFMPEG_EXE."


def executable() -> Path:
    """The ffmpeg to use: ``IMAGEIO_FFMPEG_EXE``, the one in imageio-ffmpeg's wheel, or the system's.

    imageio-ffmpeg's own ``get_ffmpeg_exe`` looks in the same places, but tries every one by starting
    it, with neither a deadline nor a message; so the folder is read here.

    Raises:
        MediaFailed: there is none.
    """
    named = os.environ.get("IMAGEIO_FFMPEG_EXE")
    if named:
        found = shutil.which(named)
        if found is None:
            raise MediaFailed(
                f"IMAGEIO_FFMPEG_EXE names {named!r}, which is no program that can be run",
                hint="Correct it, or unset it to use the ffmpeg that imageio-ffmpeg brings.",
            )
        return Path(found).absolute()
    spec = importlib.util.find_spec("imageio_ffmpeg")
    for folder in (spec and spec.submodule_search_locations) or ():
        for candidate in sorted(Path(folder, "binaries").glob("ffmpeg-*")):
            if os.access(candidate, os.X_OK):
                return candidate
    found = shutil.which("ffmpeg")
    if found is None:
        raise MediaFailed("no ffmpeg was found on this machine", hint=REINSTALL_HINT)
    return Path(found).absolute()
