"""From a tier's frames to a published clip: encode, check, publish, and only then the catalog row."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svd_local.generator.encoding import Encoding, close
from svd_local.generator.turns import Room
from svd_local.generator.work import Work
from svd_local.request import ClipRequest
from svd_local.result import Attempt, Clip, Files
from svd_local.tiers.base import BeginAgain, Frames, Monitor

if TYPE_CHECKING:
    from svd_local.catalog import Catalog
    from svd_local.generator.delivery import Delivery
    from svd_local.storage import Staging


@dataclass(frozen=True, slots=True)
class Finishing:
    """A clip whose last frame was made: `publish` needs its tier no more."""

    work: Work
    frames: Frames
    encoding: Encoding

    def publish(self, catalog: Catalog) -> Clip:
        """Wait for the encoder, check what it made by decoding it, publish the files, commit the row.

        The files come first and the row second: the row is the commit point. Where the row cannot be
        stored the files are taken back.

        Raises:
            MediaFailed: ffmpeg failed or its file is not what was asked for.
            StorageFailed: files or row could not be stored.
            Cancelled: asked for while frames were encoded.
            Exception: whatever the delivery's ``commit`` raises.
        """
        work, staging, manifest = self.work, self.encoding.staging, self.frames.manifest
        plan, delivery, request = work.plan, work.delivery, work.request.describe()
        video = self.encoding.finish()
        ending = self.frames.ended()
        clip = _draft(work, self.frames)
        clip = dataclasses.replace(
            clip,
            frames=video.info.frames,
            fps=video.info.fps,
            width=video.info.width,
            height=video.info.height,
            duration_s=video.info.duration_s,
            quality=video.quality,
            memory=ending.memory,
            warnings=(
                *plan.warnings,
                *work.sources.warnings,
                *self.frames.warnings,
                *ending.warnings,
                *work.letter_warnings,
                *video.warnings,
            ),
            timings=dataclasses.replace(
                ending.timings,
                keyframe_s=work.keyframe_s,
                encode_video_s=video.seconds,
                waited_s=work.monitor.spent.waited_s,
                turn_s=work.monitor.spent.turn_s,
            ),
        )
        work.monitor.report("publish")
        if manifest is not None:
            staging.write(".json", _json_bytes({"clip": _manifest_head(clip), **manifest}))
        suffixes = [".jpg", ".mp4"] if manifest is None else [".json", ".jpg", ".mp4"]
        elapsed_s = work.monitor.elapsed_s
        clip = dataclasses.replace(
            clip,
            elapsed_s=elapsed_s,
            attempts=(*work.before, Attempt(plan.tier, "ok", elapsed_s=elapsed_s)),
        )
        return publish_staged(staging, suffixes, clip, request, delivery, catalog)


@contextmanager
def encoded(work: Work, frames: Frames, room: Room) -> Iterator[Finishing]:
    """Have ``frames`` encoded while they are made; the block begins when the last one is.

    Where they turn out to be void, what was encoded is thrown away, and others take their place.

    Args:
        work: what they are made from.
        frames: closed where anything is raised.
        room: for the clips that are encoded at once; a place in it is held until the block's end.

    Raises:
        MediaFailed, StorageFailed: the encoder failed.
        Exception: whatever making the frames raises.
    """
    with ExitStack() as held:
        try:
            if frames.output_size is not None:
                work = work.of_size(frames.output_size)
            with work.monitor.spent.waiting():
                held.enter_context(room.taken(work.monitor.check, work.monitor.waits))
            encoding = held.enter_context(Encoding(work))
            while True:
                try:
                    encoding.read(frames, _comment(work, frames))
                    break
                except BeginAgain as news:
                    frames = news.frames
        except BaseException:
            close(frames.chunks)
            raise
        yield Finishing(work, frames, encoding)


def publish_staged(
    staging: Staging,
    suffixes: Sequence[str],
    clip: Clip,
    request: Mapping[str, Any],
    delivery: Delivery,
    catalog: Catalog,
) -> Clip:
    """Publish a clip's staged files, then commit its row; answers it with its places and its name.

    Args:
        staging: holds the files of ``suffixes``, complete and checked.
        suffixes: in the order they are to become visible, ``.mp4`` last.
        clip: as it is, but for its places.
        request: as ``ClipRequest.describe`` tells it.
        delivery: its name, its owner, and what is committed with the row.
        catalog: gets the row.

    Raises:
        InvalidRequest: the delivery's stem is no plain file name.
        StorageFailed: files or row could not be stored.
        Exception: whatever the delivery's ``commit`` raises.
    """
    from svd_local.storage import file_prefix

    published = staging.publish(
        file_prefix(clip.kind, synthetic=clip.synthetic),
        suffixes,
        stem=delivery.stem,
        record=delivery.record(clip, request),
    )
    files = Files(published[".mp4"], published.get(".jpg"), published.get(".json"))
    clip = dataclasses.replace(clip, path=published[".mp4"], files=files)
    name = catalog.add(clip, request, joined=delivery.joined(clip))
    return dataclasses.replace(clip, id=name)


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


def _draft(work: Work, frames: Frames) -> Clip:
    """What is known of the clip before its first frame is encoded: everything that changes pixels."""
    request, plan = work.request, work.plan
    provenance = work.sources.provenance(plan, frames.ran)
    return Clip(
        kind=plan.kind,
        path=work.folder,
        tier=plan.tier,
        attempts=work.before,
        parameters=provenance["parameters"],
        files=Files(),
        synthetic=plan.synthetic,
        checkpoint=plan.checkpoint,
        engine=frames.engine or plan.engine,
        device=plan.device,
        speed=plan.speed,
        seed=plan.parameters.get("seed"),
        corrections=plan.corrections,
        fingerprint=request.fingerprint(provenance),
    )


def _comment(work: Work, frames: Frames) -> str:
    """What the container's comment says of the clip: enough to make it again."""
    clip = _draft(work, frames)
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
            **work.sources.provenance(work.plan, frames.ran),
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
