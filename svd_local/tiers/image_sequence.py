"""The image-sequence tier: stills that pan, zoom and cross-fade. It works on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from svd_local.errors import TierFailed
from svd_local.request import ClipRequest, StillsParameters, stills_parameters
from svd_local.tiers.base import Availability, Frames, Job, Monitor, Plan
from svd_local.tiers.stills import camera, timeline

if TYPE_CHECKING:
    from svd_local.keyframe.types import Keyframe
    from svd_local.tiers.stills.still import UInt8Array

_HURRIED_S = 1.0
"""Seconds a picture should have at least before it is worth a warning."""


class ImageSequenceTier:
    """Animated stills: one picture, or several that fade into one another, 24 frames a second.

    The seed picks the moves, so the same request with the same seed makes the same frames.
    """

    id = "image-sequence"
    policy = None

    def availability(self, request: ClipRequest | None = None) -> Availability:
        """Always there: it needs nothing but the processor."""
        return Availability(True, "works on every machine")

    def plan(self, request: ClipRequest, monitor: Monitor | None = None) -> Plan:
        """Its pictures are wanted somewhat larger than the file, which the zoom uses up."""
        import PIL

        from svd_local.tiers.stills.render import RENDERER, working_size

        stills, corrections = stills_parameters(request)
        parameters = {**stills.to_json(), "seed": request.seed, "animation": _animation()}
        return Plan(
            tier=self.id,
            kind="animated-stills",
            size=working_size(stills.width, stills.height),
            parameters=parameters,
            fingerprint={"renderer": RENDERER, "pillow": PIL.__version__},
            fps=stills.fps,
            output_size=(stills.width, stills.height),
            pictures="all",
            corrections=corrections,
            warnings=_warnings(request, stills),
        )

    def generate(self, job: Job) -> Frames:
        """Frames at the size of the file, made while they are read; ``manifest`` tells their story.

        Raises:
            TierFailed: the job holds no picture.
            Cancelled: while the frames are read: the caller asked to stop.
        """
        if not job.keyframes:
            raise TierFailed(
                "no picture to animate", hint="Give at least one keyframe, of the plan's size."
            )
        count, fps = int(job.plan.parameters["frames"]), job.plan.fps
        width, height = job.plan.output_size
        moves = camera.choose_moves(len(job.keyframes), int(job.plan.parameters["seed"]))
        shots = timeline.timeline(moves, count, fps)
        return Frames(
            count=count,
            width=width,
            height=height,
            chunks=_chunks(job.keyframes, shots, count, (width, height), job.monitor),
            pixels="yuv420p",
            manifest=_manifest(job, shots),
        )

    def close(self) -> None:
        """Nothing is held between clips."""


def _chunks(
    keyframes: Sequence[Keyframe],
    shots: Sequence[timeline.Shot],
    count: int,
    size: tuple[int, int],
    monitor: Monitor,
) -> Iterator[UInt8Array]:
    from svd_local.tiers.stills.render import render

    monitor.report("render", 0, count)
    frames = render([keyframe.image for keyframe in keyframes], shots, count, size)
    for done, frame in enumerate(frames, 1):
        yield frame
        monitor.report("render", done, count)


def _animation() -> dict[str, Any]:
    """What of the animation is not the clip's own, for the parameters that are on record."""
    return {
        "choice_of_moves": list(camera.MOVES),
        "max_zoom": camera.MAX_ZOOM,
        "pan_zoom": camera.PAN_ZOOM,
        "full_travel_s": camera.FULL_TRAVEL_S,
        "easing": {
            "speed": "smoothstep ramps, constant between",
            "ramp_s": timeline.REST_S,
            "ramp_share": timeline.REST_SHARE,
        },
        "fade": {
            "mix": "linear light",
            "opacity": "smoothstep",
            "seconds": timeline.FADE_S,
            "share": timeline.FADE_SHARE,
        },
    }


def _manifest(job: Job, shots: Sequence[timeline.Shot]) -> dict[str, Any]:
    """Enough to see, or make again, which picture showed what part of itself in every frame."""
    width, height = job.plan.output_size
    return {
        "format": "svd_local image sequence 1",
        "frames": job.plan.parameters["frames"],
        "fps": job.plan.fps,
        "duration_s": job.plan.parameters["duration_s"],
        "width": width,
        "height": height,
        "seed": job.plan.parameters["seed"],
        "renderer": dict(job.plan.fingerprint),
        "animation": job.plan.parameters["animation"],
        "pictures": [
            {
                "digest": keyframe.digest,
                "origin": keyframe.origin,
                "width": keyframe.image.width,
                "height": keyframe.image.height,
            }
            for keyframe in job.keyframes
        ],
        "shots": [shot.to_json() for shot in shots],
    }


def _warnings(request: ClipRequest, stills: StillsParameters) -> tuple[str, ...]:
    pictures = max(1, len(request.images) + (request.image is not None))
    each = stills.duration_s / pictures
    if pictures == 1 or each >= _HURRIED_S:
        return ()
    wanted = pictures * _HURRIED_S
    return (
        f"{pictures} pictures share {stills.duration_s:g} s, {each:.2g} s each; "
        f"a duration of {wanted:g} s or more lets them be seen",
    )
