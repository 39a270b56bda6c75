"""From frames to a published clip: encode, check, publish, and only then the catalog row."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svd_local.request import ClipRequest
from svd_local.result import Attempt, Clip, Files, Quality
from svd_local.tiers.base import Frames, Monitor, Plan

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from svd_local.catalog import Catalog
    from svd_local.generator.sources import Sources
    from svd_local.keyframe.types import Keyframe
    from svd_local.media.probe import VideoInfo
    from svd_local.storage import Staging

    Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Work:
    """One rung's work on one request, up to the keyframes."""

    request: ClipRequest
    plan: Plan
    sources: Sources
    keyframes: tuple[Keyframe, ...]
    keyframe_s: float
    before: tuple[Attempt, ...]
    """The attempts of the rungs above this one."""
    monitor: Monitor


def finish(work: Work, frames: Frames, folder: Path, catalog: Catalog) -> Clip:
    """Encode ``frames``, check what was encoded by decoding it, publish the files, commit the row.

    The files come first and the row second: the row is the commit point. Where the row cannot be
    stored the files are taken back.

    Raises:
        MediaFailed: ffmpeg failed or its file is not what was asked for.
        StorageFailed: files or row could not be stored.
        Cancelled: asked for while frames were encoded.
    """
    from svd_local.keyframe import render_overlay
    from svd_local.keyframe.types import Overlays
    from svd_local.storage import Staging, file_prefix, sweep

    request, plan = work.request, work.plan
    sweep(folder)
    overlays = Overlays(request.title, request.caption, request.logo)
    overlay, letter_warnings = render_overlay(overlays, plan.output_size)
    provenance = work.sources.provenance(plan, frames.ran)
    clip = Clip(
        kind=plan.kind,
        path=folder,
        tier=plan.tier,
        attempts=work.before,
        parameters=plan.parameters,
        files=Files(),
        synthetic=plan.synthetic,
        checkpoint=plan.checkpoint,
        engine=frames.engine or plan.engine,
        device=plan.device,
        speed=plan.speed,
        seed=plan.parameters.get("seed"),
        corrections=plan.corrections,
        warnings=(*plan.warnings, *work.sources.warnings, *frames.warnings, *letter_warnings),
        memory=frames.memory,
        fingerprint=request.fingerprint(provenance),
    )
    with Staging(folder) as staging:
        begun = time.monotonic()
        encoded = _encode(work, frames, overlay, _comment(clip, provenance), staging)
        clip = dataclasses.replace(
            clip,
            frames=encoded.info.frames,
            fps=encoded.info.fps,
            width=encoded.info.width,
            height=encoded.info.height,
            duration_s=encoded.info.duration_s,
            quality=encoded.quality,
            warnings=(*clip.warnings, *encoded.warnings),
            timings=dataclasses.replace(
                frames.timings,
                keyframe_s=work.keyframe_s,
                encode_video_s=time.monotonic() - begun,
            ),
        )
        work.monitor.report("publish")
        if frames.manifest is not None:
            manifest = {"clip": _manifest_head(clip), **frames.manifest}
            staging.write(".json", _json_bytes(manifest))
        suffixes = [".jpg", ".mp4"] if frames.manifest is None else [".json", ".jpg", ".mp4"]
        published = staging.publish(file_prefix(plan.kind, synthetic=plan.synthetic), suffixes)
        files = Files(published[".mp4"], published[".jpg"], published.get(".json"))
        elapsed_s = work.monitor.elapsed_s
        clip = dataclasses.replace(
            clip,
            path=published[".mp4"],
            files=files,
            elapsed_s=elapsed_s,
            attempts=(*work.before, Attempt(plan.tier, "ok", elapsed_s=elapsed_s)),
        )
        return dataclasses.replace(clip, id=catalog.add(clip, request.describe()))


def publish_placeholder(
    request: ClipRequest, folder: Path, attempts: Sequence[Attempt], monitor: Monitor
) -> Clip:
    """Leave word of what was wanted and why there is none. It has no catalog row: it is no video."""
    from svd_local.storage import Staging, file_prefix
    from svd_local.tiers.placeholder import placeholder_document

    document = placeholder_document(request, attempts, datetime.now(UTC))
    with Staging(folder) as staging:
        staging.write(".json", _json_bytes(document))
        path = staging.publish(file_prefix("placeholder"), [".json"])[".json"]
    return Clip(
        kind="placeholder",
        path=path,
        tier="placeholder",
        attempts=tuple(attempts),
        parameters={},
        files=Files(manifest=path),
        seed=request.seed,
        elapsed_s=monitor.elapsed_s,
    )


@dataclass(frozen=True, slots=True)
class _Encoded:
    info: VideoInfo
    quality: Quality
    warnings: tuple[str, ...]


def _encode(
    work: Work, frames: Frames, overlay: Image | None, comment: str, staging: Staging
) -> _Encoded:
    """The video and its poster into ``staging``, looked at on the way and decoded back."""
    from svd_local.media.encode import encode_video, encoder_settings
    from svd_local.media.planar import to_rgb
    from svd_local.media.poster import write_poster
    from svd_local.media.probe import verify
    from svd_local.quality import QualityMeter

    plan, monitor = work.plan, work.monitor
    meter = QualityMeter(
        work.keyframes[0].image if work.keyframes else None, moving=plan.kind == "generated"
    )
    first: list[Pixels] = []

    def watched() -> Iterator[Pixels]:
        try:
            for chunk in frames.chunks:
                if not first:
                    first.append(chunk[0].copy())
                meter.feed(chunk)
                yield chunk
        finally:  # an encode that failed must not leave threads that still make frames
            if isinstance(frames.chunks, Generator):
                frames.chunks.close()

    video = staging.path(".mp4")
    fps = frames.fps or plan.fps
    encode_video(
        watched(),
        source_size=(frames.width, frames.height),
        output_size=plan.output_size,
        fps=fps,
        target=video,
        settings=encoder_settings(work.request.quality),
        pixels=frames.pixels,
        overlay=overlay,
        comment=comment,
        check=monitor.check,
        on_frame=lambda done: monitor.report("encode-video", done, frames.count),
    )
    info = verify(video, frames=frames.count, size=plan.output_size, fps=fps, check=monitor.check)
    shown = first[0] if frames.pixels == "rgb24" else to_rgb(first[0])
    write_poster(shown, staging.path(".jpg"), overlay=overlay, size=plan.output_size)
    quality, warnings = meter.finish()
    return _Encoded(info, quality, warnings)


def _comment(clip: Clip, provenance: dict[str, Any]) -> str:
    """What the container's comment says of the clip: enough to make it again."""
    return json.dumps(
        {
            "svd_local": _version(),
            "kind": clip.kind,
            "synthetic": clip.synthetic,
            "tier": clip.tier,
            "checkpoint": clip.checkpoint,
            "engine": clip.engine,
            "speed": clip.speed,
            "seed": clip.seed,
            "fingerprint": clip.fingerprint,
            **provenance,
        },
        ensure_ascii=False,
        sort_keys=True,
    )


def _manifest_head(clip: Clip) -> dict[str, Any]:
    keys = ("kind", "tier", "frames", "fps", "width", "height", "duration_s", "fingerprint")
    return {key: getattr(clip, key) for key in keys}


def _json_bytes(document: object) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _version() -> str:
    from svd_local import __version__

    return __version__
