"""The other side of image_sequence.py: the same zoom by MoviePy. Runs in an environment of its own.

Usage: moviepy_zoom.py PICTURE OUTPUT SECONDS FPS WIDTH HEIGHT ZOOM PRESET CRF
"""

from __future__ import annotations

import sys

from moviepy import CompositeVideoClip, ImageClip  # type: ignore[import-not-found]


def main() -> None:
    """Zoom from the whole picture to ``ZOOM`` by equal factors, as the other side does."""
    picture, output = sys.argv[1:3]
    seconds, fps, width, height, zoom = map(float, sys.argv[3:8])
    preset, crf = sys.argv[8:]
    still = ImageClip(picture).with_duration(seconds)
    whole = width / still.w
    moving = still.resized(lambda t: whole * zoom ** (t / seconds)).with_position("center")
    clip = CompositeVideoClip([moving], size=(int(width), int(height)))
    clip.write_videofile(
        output,
        fps=fps,
        codec="libx264",
        preset=preset,
        ffmpeg_params=["-crf", crf],
        audio=False,
        logger=None,
    )


if __name__ == "__main__":
    main()
