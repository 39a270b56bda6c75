"""Bytes from elsewhere that are said to be a video: proven, and read frame by frame."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svd_local.errors import MediaFailed, RemoteFailed
from svd_local.tiers.base import Monitor
from svd_local.tiers.remote.refusals import clean, server_words

if TYPE_CHECKING:
    import numpy as np

    from svd_local.media.probe import VideoInfo

_HINT = "Try again, or use another provider or tier."
_EBML = b"\x1a\x45\xdf\xa3"


class Video:
    """A video in a file of its own, which goes when its frames were read, or nobody will read them.

    Attributes:
        info: what the file holds.
        size: that of the frames handed out: the file's, unless they are cut to another shape.
        count: how many are handed out.
        fps: and at what rate: the file's, or what plays everywhere if that is less.
    """

    def __init__(self, path: Path, info: VideoInfo) -> None:
        from svd_local.media.keep import MOST_FPS

        self.info = info
        self.size = (info.width, info.height)
        self.fps = min(info.fps, MOST_FPS)
        self.count = max(round(info.frames * self.fps / info.fps), 2)
        self._path = path
        self._remove = weakref.finalize(self, shutil.rmtree, path.parent, ignore_errors=True)

    def cut_to_shape(self, width: int, height: int) -> bool:
        """Have the frames cut to the shape of ``width`` by ``height``, whatever their size. False
        where they are of that shape already, to within two in a hundred.
        """
        own, wanted = self.info.width / self.info.height, width / height
        if abs(own / wanted - 1) < 0.02:
            return False
        narrower = round(self.info.height * wanted), self.info.height
        lower = self.info.width, round(self.info.width / wanted)
        self.size = narrower if own > wanted else lower
        return True

    @property
    def bent(self) -> tuple[str, ...]:
        """What of the file the clip will not have, in a sentence each."""
        said = []
        if self.info.sound:
            said.append("the video came with sound, which is left out")
        if not self.info.constant_rate:
            said.append(
                f"the video's frames were not evenly apart: they are now, at {self.fps:g} a second"
            )
        if self.count < self.info.frames:
            said.append(
                f"the video had {self.info.fps:g} frames a second, which few programs play:"
                f" {self.count} of its {self.info.frames} are kept, {self.fps:g} a second"
            )
        return tuple(said)

    @property
    def ready(self) -> Path | None:
        """The file, where it can be kept as it is: it plays everywhere, and nothing is cut off."""
        from svd_local.media.keep import plays_everywhere

        uncut = self.size == (self.info.width, self.info.height)
        return self._path if uncut and plays_everywhere(self.info) else None

    def frames(self, monitor: Monitor) -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
        """uint8 arrays of shape (1, height, width, 3), RGB. Once: the file is gone afterwards.

        Raises:
            MediaFailed: the file is not what it was when it was probed.
            Cancelled: the caller asked to stop.
        """
        from svd_local.media.probe import decode_frames

        width, height = self.size
        x, y = (self.info.width - width) // 2, (self.info.height - height) // 2
        kept = {number * self.info.frames // self.count for number in range(self.count)}
        try:
            for done, frame in enumerate(decode_frames(self._path, check=monitor.check), 1):
                if done - 1 not in kept:
                    continue
                yield frame[None, y : y + height, x : x + width]
                monitor.report("decode", done, self.info.frames)
        finally:
            self._remove()


def proven(data: bytes, who: str, secrets: tuple[str, ...], check: Callable[[], None]) -> Video:
    """``data``, decoded in full and found to be a video.

    Args:
        data: the bytes.
        who: sent them.
        secrets: what is not repeated of them.
        check: called often meanwhile; what it raises ends the decoding.

    Raises:
        RemoteFailed: it is none.
        StorageFailed: there is no room to look at it.
    """
    from svd_local.media.files import temporary_error
    from svd_local.media.probe import probe

    if data[4:8] != b"ftyp" and data[:4] != _EBML:
        said = server_words(data[:4096], secrets) if data[:1] in (b"{", b"<", b"[") else ""
        raise RemoteFailed(
            f"{who} sent {len(data)} bytes that are no video" + (f": {said}" if said else ""),
            hint=_HINT,
        )
    try:
        folder = Path(tempfile.mkdtemp(prefix="svd_local-"))
    except OSError as error:
        raise temporary_error(error) from error
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        path = folder / "video"
        try:
            path.write_bytes(data)
        except OSError as error:
            raise temporary_error(error) from error
        try:
            info = probe(path, check=check)
        except MediaFailed as error:
            why = clean(error.message.replace(str(path), "it"), secrets)
            raise RemoteFailed(f"{who} sent a video that is none: {why}", hint=_HINT) from error
        if info.frames < 2:
            raise RemoteFailed(f"{who} sent a video of one frame", hint=_HINT)
        stack.pop_all()
    return Video(path, info)
