"""The HTML: numbers first, problems next, then the videos, ``PER_PAGE`` to a page.

A page is one file without a server: styles and the script are in it, pictures and videos are relative
links, and its Content-Security-Policy lets nothing else in. Every text is escaped by Jinja.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from svd_local.batch.counting import counted
from svd_local.batch.report import words
from svd_local.batch.report.entry import FILE_GONE, PLACEHOLDER, QUALITY, UNREADABLE, Entry
from svd_local.batch.report.figures import PHASES, Figures, Reasons
from svd_local.batch.report.gather import BatchReport
from svd_local.batch.report.tables import corrected
from svd_local.catalog.jobs import Run
from svd_local.request import format_bytes

PER_PAGE = 500
_TEMPLATES = Path(__file__).with_name("templates")
_PHASE_NAMES = {
    "load_s": "loading the model",
    "keyframe_s": "keyframe",
    "encode_image_s": "image encoder",
    "denoise_s": "denoising",
    "decode_s": "decoding",
    "encode_video_s": "MP4",
}
_STATE_NAMES = {
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "running": "running",
    "queued": "waiting",
}
_UNLIKE = {
    PLACEHOLDER: "only placeholders were made, no videos",
    FILE_GONE: "files are no longer there",
    UNREADABLE: "videos could not be read",
    QUALITY: "quality checks did not pass",
}
"""Problems whose jobs differ in what is said of them; of others the code is told."""
_WIDTH = 1000.0
"""Of a bar, in its own units."""


def page_names(stem: str, videos: int) -> list[str]:
    """The files of a report with so many videos: ``report.html``, ``report-2.html``, ..."""
    count = max(1, -(-videos // PER_PAGE))
    return [f"{stem}.html", *(f"{stem}-{number}.html" for number in range(2, count + 1))]


def write_pages(report: BatchReport, stem: str, folder: Path) -> list[str]:
    """Write every page into ``folder`` and answer their names, the first one first.

    Raises:
        OSError: one cannot be written.
    """
    names = page_names(stem, report.figures.videos)
    videos = (entry for entry in report.entries() if entry.video)
    template = _environment().get_template("report.html")
    for place, name in enumerate(names):
        context = _context(report, stem, names, place, list(islice(videos, PER_PAGE)))
        with (folder / name).open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(template.generate(context))
    return names


def _context(
    report: BatchReport, stem: str, names: list[str], place: int, videos: list[Entry]
) -> dict[str, Any]:
    style, script = _asset("style.css"), _asset("script.js")
    figures = report.figures
    return {
        "batch": report.batch,
        "figures": figures,
        "headline": headline(figures),
        "written_at": report.written_at,
        "first": place == 0,
        "place": place,
        "pages": names,
        "shown": (place * PER_PAGE + 1, place * PER_PAGE + len(videos)),
        "videos": videos,
        "problems": _by_problem(report) if place == 0 else (),
        "skipped": report.skipped,
        "unmade": report.unmade,
        "unmade_summary": ", ".join(
            f"{figures.counts[state]:,} {_STATE_NAMES[state]}"
            for state in ("running", "queued", "cancelled")
            if figures.counts[state]
        ),
        "runs": [(run, _workers_of(run)) for run in report.runs],
        "states": _segments(_states(figures)),
        "phases": _segments({_PHASE_NAMES[k]: v for k, v in figures.phases.items()}),
        "stem": stem,
        "style": style,
        "script": script,
        "policy": _policy(style, script),
    }


def _workers_of(run: Run) -> list[Mapping[str, Any]]:
    """Its worker processes; where it had none, the process it ran in as one."""
    workers = list(run.figures.get("workers") or ())
    if workers:
        return workers
    not_denoising = run.figures.get("not_denoising")
    alone = {
        "gpu": None,
        "clips": run.figures["made"],
        "seconds": run.figures["elapsed_s"],
        "denoising": None if not_denoising is None else 1 - not_denoising,
        "gpu_use": None,
        "starts": None,
        "losses": [],
        "set_aside": None,
    }
    return [alone]


def headline(figures: Figures) -> str:
    """The batch in one sentence."""
    if not figures.total:
        return "This batch has no jobs."
    if not figures.wanted:
        return f"No video is wanted any more; {figures.total:,} cancelled."
    others = [
        f"{count:,} {what}"
        for count, what in (
            (figures.counts["failed"], "failed"),
            (figures.counts["cancelled"], "cancelled"),
            (figures.troubled - figures.counts["failed"], "to look at"),
            (figures.open, "still to do"),
            (
                figures.skipped_rows,
                f"{'row' if figures.skipped_rows == 1 else 'rows'} left out as bad",
            ),
        )
        if count
    ]
    return f"{_ready(figures)}{'; ' if others else ''}{', '.join(others)}."


def _ready(figures: Figures) -> str:
    """How many videos are there, of those that are wanted: a cancelled one leaves nothing unfinished."""
    wanted = counted(figures.wanted, "video is", "videos are")
    if figures.videos < figures.wanted or figures.troubled:
        unfinished = "Not finished: " if figures.open else ""
        return f"{unfinished}{figures.videos:,} of {wanted} ready"
    own = f", {figures.shared:,} of them without a file of their own" if figures.shared else ""
    return "The video is ready" if figures.wanted == 1 else f"All {wanted} ready{own}"


def tags(entry: Entry) -> str:
    """What the page's filter knows an entry by, separated by spaces."""
    known = {
        entry.state: True,
        "video": entry.video,
        "problem": entry.problem is not None,
        "generated": entry.video and entry.kind == "generated",
        "animated-stills": entry.video and entry.kind == "animated-stills",
        "synthetic": entry.video and entry.synthetic,
        "cached": entry.cached,
        "warned": bool(entry.warnings),
        "fell-back": bool(entry.video and entry.missed),
    }
    return " ".join(name for name, is_so in known.items() if is_so)


def _states(figures: Figures) -> Mapping[str, float]:
    return {_STATE_NAMES[state]: figures.counts[state] for state in _STATE_NAMES}


def _by_problem(report: BatchReport) -> list[tuple[Reasons, str, list[Entry]]]:
    """Each problem, what to call it, and the entries that have it, as far as they are listed."""
    listed: dict[str, list[Entry]] = {}
    for entry in report.problems:
        assert entry.problem is not None
        listed.setdefault(entry.problem["code"], []).append(entry)
    return [
        (
            reason,
            reason.message
            if reason.alike
            else _UNLIKE.get(reason.code, reason.code.replace("-", " ")),
            listed.get(reason.code, []),
        )
        for reason in report.figures.problems
    ]


def _segments(parts: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parts of a bar ``_WIDTH`` long, from left to right; what is zero is left out."""
    total = sum(parts.values())
    segments, left = [], 0.0
    for place, (name, value) in enumerate(parts.items()):
        if value:
            width = value / total * _WIDTH
            segments.append(
                {
                    "name": name,
                    "value": value,
                    "share": value / total,
                    "left": round(left, 2),
                    "width": round(width, 2),
                    "place": place,
                }
            )
            left += width
    return segments


def _phases_of(entry: Entry) -> list[tuple[str, float]]:
    return [
        (_PHASE_NAMES[name], seconds) for name in PHASES if (seconds := entry.timings.get(name))
    ]


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=words.clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "href": words.href,
        "moment": words.moment,
        "zone": words.zone,
        "number": words.number,
        "percent": words.percent,
        "seconds": words.seconds,
        "size": format_bytes,
        "span": words.span,
        "corrected": corrected,
        "phases": _phases_of,
        "plural": counted,
        "tags": tags,
    }
    return environment


@functools.cache
def _asset(name: str) -> Markup:
    """A file of ours that goes into the page as it is."""
    text = (_TEMPLATES / name).read_text(encoding="utf-8")
    assert "</" not in text, "it would end its own element"
    return Markup(text)  # noqa: S704 - it came with the package


def _policy(style: str, script: str) -> str:
    """Nothing from anywhere but pictures and videos beside the page; no style or script but ours.

    ``file:`` stands beside ``'self'``, which a page opened from disk has no meaning for.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "img-src 'self' file:",
            "media-src 'self' file:",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
