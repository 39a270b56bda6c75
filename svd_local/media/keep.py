"""A finished video into an MP4 of ours without encoding it again: its pictures stay what they are."""

from __future__ import annotations

from pathlib import Path

from svd_local.media import ffmpeg, metadata
from svd_local.media.files import discard, working_folder, write
from svd_local.media.probe import DEFAULT_LIMITS, VideoInfo, guarded_input

MOST_FPS = 60.0
"""Frames a second of a file that plays everywhere."""
DEADLINE_S = 60.0


def plays_everywhere(info: VideoInfo) -> bool:
    """Whether a video is what ``encode`` makes: H.264 in yuv420p, even sides, a constant usual rate."""
    return (
        (info.codec, info.pixel_format) == ("h264", "yuv420p")
        and info.width % 2 == info.height % 2 == 0
        and info.constant_rate
        and 1 <= info.fps <= MOST_FPS
    )


def keep_video(
    source: Path, target: Path, *, comment: str = "", check: ffmpeg.Check | None = None
) -> None:
    """Write ``target``, an MP4 with the very pictures of ``source``, faststart.

    Sound, other streams and foreign tags are left out.

    Args:
        source: a video nobody vouches for; see ``plays_everywhere``.
        target: replaced where it exists, removed where writing fails.
        comment: text for the container's ``comment``.
        check: called often; what it raises ends ffmpeg.

    Raises:
        MediaFailed: ffmpeg failed or hung.
        DiskFull: no room for the file.
        StorageFailed: the target cannot be written.
    """
    try:
        with working_folder(beside=target) as room:
            write(room / "tags.txt", metadata.dump(comment))
            ffmpeg.run(
                [
                    *ffmpeg.usual_options("warning"),
                    *("-y", *guarded_input(source, DEFAULT_LIMITS)),
                    *("-f", "ffmetadata", "-i", "file:tags.txt"),
                    *("-map", "0:v:0", "-map_metadata", "1", "-map_metadata:s", "-1"),
                    *("-map_chapters", "-1", "-c", "copy", "-movflags", "+faststart"),
                    *("-f", "mp4", f"file:{target.absolute()}"),
                ],
                doing=f"keep the video as {target.name}",
                deadline_s=DEADLINE_S,
                check=check,
                cwd=room,
            )
    except BaseException:
        discard(target)
        raise
