"""From a tier's frames to a video file, encoded in a thread of its own while they are made.

The caller's thread makes the frames, tells of progress and asks for cancellation, as it does for
all of a clip. Once the last frame is made the file is finished without the tier, and so without its
turn on the GPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from svd_local.media.beside import Beside
from svd_local.result import Quality
from svd_local.storage import Staging
from svd_local.tiers.base import BeginAgain, Frames

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from svd_local.generator.work import Work
    from svd_local.media.beside import Check
    from svd_local.media.encode import Encoded
    from svd_local.media.probe import VideoInfo
    from svd_local.quality import QualityMeter

    Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Video:
    """What came of a clip's frames: the staged files, looked at and decoded back."""

    info: VideoInfo
    quality: Quality
    warnings: tuple[str, ...]
    seconds: float
    """What encoder and checks worked; waiting for frames is not counted."""


class Encoding:
    """One clip's files in the making; a context manager. Left without `finish` nothing stays.

    Attributes:
        staging: where the files are, hidden until they are published.
    """

    def __init__(self, work: Work) -> None:
        self.staging = Staging(work.folder)
        self._work = work
        self._held = ExitStack()
        self._take: _Take | None = None

    def __enter__(self) -> Self:
        self._held.enter_context(self.staging)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._take is not None:
                self._take.end()
        finally:
            self._held.__exit__(kind, error, trace)

    def read(self, frames: Frames, comment: str) -> None:
        """Have ``frames`` encoded as they are made; done when the last one is.

        Args:
            frames: read to the end, and closed where anything is raised.
            comment: for the container.

        Raises:
            BeginAgain: they are void. Call it again with the others.
            MediaFailed, StorageFailed, DiskFull: the encoder failed.
            Exception: whatever making them raises, or the monitor.
        """
        if self._take is not None:
            self._take.end()
        chunks = iter(frames.chunks)
        try:
            self._take = take = _Take(self._work, frames, comment, self.staging)
            for chunk in chunks:
                take.put(chunk)
        except BeginAgain:  # the others may come from the same iterator
            raise
        except BaseException:
            close(chunks)
            raise

    def finish(self) -> Video:
        """Wait for the encoder, look at its file, write the poster.

        Raises:
            MediaFailed, StorageFailed, DiskFull: the encoder failed, or its file is not what was
                asked for.
            Cancelled: asked for meanwhile.
        """
        assert self._take is not None
        return self._take.finish()


class _Take:
    """One encoder and what it was given."""

    def __init__(self, work: Work, frames: Frames, comment: str, staging: Staging) -> None:
        from svd_local.quality import QualityMeter

        keyframe = frames.keyframe or next(iter(work.keyframes), None)
        self._work = work
        self._frames = frames
        self._comment = comment
        self._staging = staging
        self._meter: QualityMeter = QualityMeter(
            None if keyframe is None else keyframe.image, moving=work.plan.kind == "generated"
        )
        self._first: Pixels | None = None
        self._kept: VideoInfo | None = None
        if frames.ready is not None and work.letters is None:
            # Before a frame is read: the file goes when the last one was.
            self._kept = self._keep(frames.ready)
        self._done = self._told = 0
        self._beside = Beside(self._encode)
        self._beside.__enter__()

    def _keep(self, ready: Path) -> VideoInfo | None:
        """A file's very pictures, as the clip; None where its frames have to be encoded anew, since its
        container cannot be left without their times being changed: Matroska's, say, has milliseconds.
        """
        from svd_local.errors import MediaFailed
        from svd_local.media.keep import keep_video

        target = self._staging.path(".mp4")
        try:
            keep_video(ready, target, comment=self._comment, check=self._work.monitor.check)
            return self._verified()
        except MediaFailed:
            return None

    def _verified(self) -> VideoInfo:
        from svd_local.media.probe import verify

        video = self._staging.path(".mp4")
        return verify(
            video,
            frames=self._frames.count,
            size=self._work.plan.output_size,
            fps=self._fps,
            check=self._work.monitor.check,
            beside=video,
        )

    @property
    def _fps(self) -> float:
        return self._frames.fps or self._work.plan.fps

    def put(self, chunk: Pixels) -> None:
        if self._first is None:
            self._first = chunk[0].copy()
        self._beside.put(chunk, self._work.monitor.check)

    def end(self) -> None:
        """Whatever is not finished is given up."""
        self._beside.__exit__(None, None, None)

    def finish(self) -> Video:
        from svd_local.media.planar import to_rgb
        from svd_local.media.poster import write_poster

        size = self._work.plan.output_size
        self._beside.result(self._tell)
        self._tell()
        began = time.monotonic()
        info = self._kept or self._verified()
        assert self._first is not None
        shown = self._first if self._frames.pixels == "rgb24" else to_rgb(self._first)
        write_poster(shown, self._staging.path(".jpg"), overlay=self._work.letters, size=size)
        quality, warnings = self._meter.finish()
        seconds = self._beside.busy_s + time.monotonic() - began
        return Video(info, quality, warnings, seconds)

    def _encode(self, chunks: Iterator[Pixels], check: Check) -> Encoded:
        """In the encoder's thread. The frames are looked at here too, to leave the other one alone."""
        from svd_local.media.encode import Encoded, encode_video, encoder_settings

        def count(done: int) -> None:
            self._done = done

        if self._kept is not None:
            for chunk in self._watched(chunks):
                check()
                count(self._done + len(chunk))
            return Encoded(self._done, 0.0)
        return encode_video(
            self._watched(chunks),
            source_size=(self._frames.width, self._frames.height),
            output_size=self._work.plan.output_size,
            fps=self._fps,
            target=self._staging.path(".mp4"),
            settings=encoder_settings(self._work.request.quality),
            pixels=self._frames.pixels,
            overlay=self._work.letters,
            comment=self._comment,
            check=check,
            on_frame=count,
        )

    def _watched(self, chunks: Iterator[Pixels]) -> Iterator[Pixels]:
        for chunk in chunks:
            self._meter.feed(chunk)
            yield chunk

    def _tell(self) -> None:
        """Progress, from the clip's own thread: only once all frames are made, which tells its own."""
        done, monitor = self._done, self._work.monitor
        if done == self._told:
            monitor.check()
            return
        self._told = done
        monitor.report("encode-video", done, self._frames.count)


def close(chunks: Iterable[Pixels]) -> None:
    """Have whoever makes the frames stop and clear up."""
    end = getattr(chunks, "close", None)
    if end is not None:
        end()
