"""Batches whose jobs came to whatever a test wants, and pages taken apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers.databases import database_of

from svd_local.batch.report import ReportFiles, write_report
from svd_local.batch.skipped import Skipped
from svd_local.batch.summary import BatchSummary
from svd_local.catalog import Catalog
from svd_local.catalog.identity import new_id
from svd_local.catalog.jobs import Batch, Lease, NewJob, Reason, RunState
from svd_local.result import Attempt, Clip, Files, Quality, Timings

TRIES = 3


@pytest.fixture(scope="session")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real video: 6 frames of 64x36 at 7 frames a second."""
    from svd_local.media.encode import encode_video, encoder_settings

    path = tmp_path_factory.mktemp("report") / "clip.mp4"
    frames = np.zeros((6, 36, 64, 3), np.uint8)
    frames[:] = np.linspace(0, 250, 64)[None, None, :, None]
    for number, frame in enumerate(frames):
        frame[:, 10 * number : 10 * number + 8] = (220, 40, 40)
    encode_video(
        [frames],
        source_size=(64, 36),
        output_size=(64, 36),
        fps=7,
        target=path,
        settings=encoder_settings("fast"),
    )
    return path.read_bytes()


@dataclass
class Bench:
    """A catalog with one batch, whose next queued job a test brings to an end."""

    catalog: Catalog
    batch: Batch
    folder: Path
    mp4: bytes
    worker: str = "host:1"

    def claim(self) -> Lease:
        lease = self.catalog.jobs.claim(self.batch.id, self.worker, lease_s=60)
        assert lease is not None
        return lease

    def done(self, name: str | None = None, *, cached: bool = False, **fields: Any) -> Path:
        """The next job comes to a video; ``fields`` are the clip's. Answers the video."""
        lease = self.claim()
        place = self.folder / (lease.job.folder or "")
        place.mkdir(parents=True, exist_ok=True)
        video = place / f"{name or f'sd_video_20261124T0600{lease.job.index:05d}Z'}.mp4"
        video.write_bytes(fields.pop("content", self.mp4))
        video.with_suffix(".jpg").write_bytes(b"poster")
        values: dict[str, Any] = {
            "kind": "generated",
            "path": video,
            "tier": "local",
            "attempts": (Attempt("local", "ok"),),
            "parameters": {"steps": 25, "guidance": [1.0, 3.0], "motion": 127},
            "files": Files(video, video.with_suffix(".jpg")),
            "checkpoint": "svd-xt",
            "engine": "fused",
            "device": "cuda",
            "speed": "exact",
            "frames": 6,
            "fps": 7.0,
            "width": 64,
            "height": 36,
            "duration_s": 0.857,
            "seed": 7,
            "elapsed_s": 8.0,
            "timings": Timings(encode_image_s=0.5, denoise_s=6.0, decode_s=1.0, encode_video_s=0.5),
            "quality": Quality(True, {"not_black": {"passed": True, "grade": "failure"}}),
        }
        clip = Clip(**{**values, **fields})
        jobs = self.catalog.jobs
        self.catalog.add(
            clip,
            lease.job.fields,
            joined=lambda session, id: jobs.complete(
                session, lease, clip_id=id, path=video, cached=cached
            ),
        )
        return video

    def fail(self, code: str = "out-of-memory", message: str = "too small", hint: str = "") -> None:
        reason = Reason(code, message, hint)
        self.catalog.jobs.fail(self.claim(), reason, tries=TRIES, delay_s=0, final=True)

    def ran(self, summary: BatchSummary, state: RunState = "ended", **more: Any) -> None:
        """A run came to ``summary``."""
        jobs, figures = self.catalog.jobs, summary.figures() | more
        run_id = new_id(datetime.now(UTC))
        jobs.note_run(
            *(self.batch.id, run_id, self.worker, state, figures), elapsed_s=summary.elapsed_s
        )

    def report(self, **options: Any) -> ReportFiles:
        return write_report(self.catalog, self.batch, **{"sheets": False, **options})


@pytest.fixture
def bench(tmp_path: Path, mp4: bytes, server: str) -> Iterator[Callable[..., Bench]]:
    """Call with the fields of each job for a batch of them."""
    root = tmp_path / "media"
    with Catalog(database_of(tmp_path), root) as catalog:

        def make(
            *fields: dict[str, Any],
            name: str = "Lessons",
            folders: tuple[str | None, ...] = (None,),
            folder: Path | None = None,
            skipped: Skipped | None = None,
            rows: tuple[int, ...] | None = None,
        ) -> Bench:
            jobs = [
                NewJob(
                    key=f"{place:064x}",
                    row=rows[place] if rows else place + 2,
                    index=place,
                    fields=one,
                    folder=folders[place % len(folders)],
                )
                for place, one in enumerate(fields)
            ]
            out = folder or root / "videos" / "out"
            batch = catalog.jobs.enroll(
                name,
                jobs,
                folder=out,
                manifest=tmp_path / "a.csv",
                skipped=None if skipped is None else skipped.to_json(),
            ).batch
            return Bench(catalog, batch, out, mp4)

        yield make


@dataclass
class Element:
    """A tag with its attributes and the text right within it, or within what it holds."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""

    def __getitem__(self, name: str) -> str:
        return self.attributes[name] or ""


@dataclass
class Page:
    """A page's elements in their order, as an HTML parser sees them."""

    elements: list[Element] = field(default_factory=list)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        return [
            one
            for one in self.elements
            if one.tag == tag
            and all(value in (one.attributes.get(key) or "") for key, value in attributes.items())
        ]

    @property
    def links(self) -> list[str]:
        return [
            one.attributes[name] or ""
            for one in self.elements
            for name in ("href", "src", "poster")
            if name in one.attributes
        ]


class _Parser(HTMLParser):
    _VOID = frozenset({"meta", "img", "br", "input", "link"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.page.elements.append(element)
        if tag not in self._VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> ends nothing"
        assert self._open.pop().tag == tag, f"</{tag}> ends another element"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def whole(self) -> Page:
        assert self._open == [], "every element was ended"
        return self.page


@pytest.fixture
def parsed() -> Callable[[Path], Page]:
    """Call with an HTML file for its elements; one that is not well nested fails the test."""

    def parse(path: Path) -> Page:
        parser = _Parser()
        parser.feed(path.read_text(encoding="utf-8"))
        parser.close()
        return parser.whole()

    return parse
