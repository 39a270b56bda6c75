"""The page shows what there is, escapes what was written, and needs nothing but its folder."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import json
import re
from urllib.parse import unquote

import pytest

from svd_local.batch import Problem
from svd_local.batch.liveness import FOLDER
from svd_local.batch.report import page as page_module
from svd_local.batch.report.words import href
from svd_local.batch.skipped import Skipped
from svd_local.batch.summary import BatchSummary, WorkerFigures
from svd_local.catalog.jobs import STATES
from svd_local.result import Attempt, Correction, Quality

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)> ' onmouseover='alert(1)",
    "</title></style></script><h1>",
    '=HYPERLINK("http://evil.example")',
    "{{ 7 * 7 }} {% raw %} &lt; &amp;",
    "\u202eתחכום\u202c אחד",
    "🎬 🧑‍🔬 ✅",
    "a\x01b\x7fc\x85d",
    "long " * 400,
)


def test_workers_are_told_with_what_became_of_them(bench, parsed):
    batch = bench({"title": "a"})
    batch.done()
    gpus = [
        WorkerFigures(0, "H100", "GPU-1", 30, 600.0, 0.91, 0.97, 1, (), None),
        WorkerFigures(
            1, "H100 <b>", "GPU-2", 0, 9.0, None, None, 3, ("killed <i>",) * 3, "3 failed"
        ),
    ]
    summary = BatchSummary(batch.batch, 30, 2, 1, 0, 600.0, 180.0, 0.09, (), False, tuple(gpus))
    batch.ran(dataclasses.replace(summary, workers=(), not_denoising=None))
    batch.ran(summary)
    files = batch.report()
    page = parsed(files.html)
    (section,) = page.all("section", id="workers")
    text = " ".join(section.text.split())
    assert (
        "30 videos made, 2 found, 1 adopted, 180 an hour, 9.0 % of the time not denoising" in text
    )
    cells = "|".join(" ".join(one.text.split()) for one in page.all("td"))
    assert "H100|30|10 min 00 s|91 %|97 %|0 of 1|" in cells
    assert "|H100 <b> set aside|0|9.0 s|–|–|3 of 3|3 failed|killed <i>|killed <i>|killed" in cells
    assert "|CPU, in one process|30|10 min 00 s|–|–|–" in cells
    runs = json.loads(files.json.read_text())["runs"]
    assert [len(run["workers"]) for run in runs] == [2, 0]
    assert runs[0]["began_at"] < runs[0]["ended_at"]


def test_runs_without_an_end_are_told(bench, parsed):
    batch = bench({"title": "a"}, {"title": "b"})
    batch.done()
    summary = BatchSummary(batch.batch, 1, 0, 0, 0, 65.0, None, None, (), False)
    batch.ran(summary, "failed", error={"code": "x", "message": "the GPU <b> answers no more"})
    folder = batch.catalog.media_root / FOLDER
    folder.mkdir()
    (folder / batch.worker).touch()  # of a dead one
    batch.ran(summary, "running")
    batch.claim()
    batch.worker = "elsewhere-1"
    batch.ran(summary, "running")
    files = batch.report()
    page = parsed(files.html)
    told = [" ".join(one.text.split()) for one in page.all("summary")]
    runs = [one for one in told if "1 min 05 s" in one]
    assert runs[0].endswith("1 min 05 s: 1 video made; at work")
    assert runs[1].endswith("made; killed, or cut off: the numbers are those it last noted")
    assert runs[2].endswith("made; failed: the GPU <b> answers no more")
    states = [run["state"] for run in json.loads(files.json.read_text())["runs"]]
    assert states == ["running", "lost", "failed"]
    (unmade,) = page.all("section", id="unmade")
    assert "1 waiting" in unmade.text
    assert "its worker, or the whole command, was killed" in unmade.text


def test_text_stays_text(bench, parsed):
    batch = bench(*({"title": text[:200], "prompt": text} for text in HOSTILE), name=HOSTILE[0])
    for text in HOSTILE[:5]:
        batch.done(
            warnings=(text,),
            corrections=(Correction("title", text, text, text),),
            attempts=(Attempt("webui", "failed", "x", text), Attempt("local", "ok")),
            checkpoint=text,
            parameters={"steps": text},
        )
    for text in HOSTILE[5:]:
        batch.fail("code" + text, text, text)
    files = batch.report()
    page = parsed(files.html)
    assert len(page.all("script")) == 1
    assert len(page.all("style")) == 1
    assert len(page.all("h1")) == 1
    assert page.all("img") == []
    assert page.all("h1")[0].text == HOSTILE[0]
    assert not any(name.startswith("on") for one in page.elements for name in one.attributes)
    titles = [one.text for one in page.all("h3")]
    for text in HOSTILE[:5]:
        assert text[:200] in titles
        assert any(one.text == text for one in page.all("bdi"))
    told = [one.text for one in page.all("bdi")]
    assert HOSTILE[6] in told
    assert "a\ufffdb\ufffdc\ufffdd" in told, "what HTML has no place for is shown as such"
    assert HOSTILE[8][:200] in told


def test_clips_of_one_row_are_told_apart_by_their_seeds(bench, parsed):
    rows = (2, 3, 3, 4, 4, 5, 5)
    batch = bench(*({"title": "a", "seed": 40 + n} for n in range(7)), rows=rows)
    for n in range(3):
        batch.done(seed=40 + n)
    for _ in range(2):
        batch.fail()
    batch.catalog.jobs.cancel(batch.batch.id)
    page = parsed(batch.report().html)
    meta = [one.text for one in page.all("p", **{"class": "meta"})]
    assert [one.split(" · ")[0] for one in meta] == ["row 2", "row 3, seed 41", "row 3, seed 42"]
    labels = [one["aria-label"] for one in page.all("a", **{"class": "frame"})]
    assert [label.endswith("a, seed 41") for label in labels] == [False, True, False]
    told = [one.text.strip() for one in page.all("td", **{"class": "clip"})]
    assert told == ["a, seed 43", "a, seed 44", "a, seed 45", "a, seed 46"]


def test_the_policy_lets_in_what_is_in_the_page_and_nothing_else(bench, parsed):
    batch = bench({"title": "a"})
    batch.done()
    page = parsed(batch.report().html)
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.split(" ", 1) for rule in policy["content"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == rules["media-src"] == "'self' file:"
    for tag in ("style", "script"):
        (element,) = page.all(tag)
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not any("style" in one.attributes for one in page.elements), "the policy forbids it"
    # It stands before everything it is about.
    tags = [one.tag for one in page.elements]
    assert tags.index("meta") < tags.index("style")
    assert page.elements.index(policy) < tags.index("style")


def test_links_lead_to_files_also_after_a_move(bench, parsed, tmp_path):
    batch = bench(
        *({"title": str(number)} for number in range(3)),
        folders=(None, "part #1 100%?&+ü", "a/b:c"),
    )
    videos = [batch.done(), batch.done("50% of ü #1?"), batch.done("javascript:alert(1)")]
    files = batch.report(sheets=True)
    moved = tmp_path / "moved"
    files.html.parent.rename(moved)
    page = parsed(moved / "report.html")
    relative = [link for link in page.links if not link.startswith("#")]
    assert relative
    for link in relative:
        assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", link), link
        assert (moved / unquote(link)).is_file(), link
    played = [unquote(one["src"]) for one in page.all("video")]
    assert played == [video.relative_to(batch.folder).as_posix() for video in videos]
    source = (moved / "report.html").read_text()
    assert not re.search(r"https?:|//[a-z]|url\(|@import", source), "nothing from elsewhere"
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert anchors <= {one["id"] for one in page.elements if "id" in one.attributes}


def test_videos_wait_to_be_asked(bench, parsed):
    batch = bench({"title": "a"})
    batch.done()
    (video,) = parsed(batch.report().html).all("video")
    assert video["preload"] == "none"
    assert {"muted", "loop", "playsinline", "poster"} <= video.attributes.keys()
    assert "autoplay" not in video.attributes


def test_problems_come_first_and_say_why(bench, parsed):
    batch = bench(*({"title": f"clip {number}"} for number in range(5)))
    batch.done()
    batch.fail("out-of-memory", "12 GiB are needed", "Close other programs.")
    batch.fail("out-of-memory", "12 GiB are needed", "Close other programs.")
    batch.fail("media-failed", "the disk makes noises")
    batch.done().unlink()
    page = parsed(batch.report().html)
    ids = [one["id"] for one in page.elements if "id" in one.attributes]
    assert ids == ["problems", "speed", "videos"]
    (problems,) = page.all("section", id="problems")
    for text in ("12 GiB are needed", "Close other programs.", "the disk makes noises"):
        assert text in problems.text
    assert "is no longer there" in problems.text
    assert problems.text.index("12 GiB") < problems.text.index("noises"), "the frequent first"
    assert len(page.all("video")) == 1
    assert (
        "1 of 5 videos are ready; 3 failed, 1 to look at."
        in page.all("p", **{"class": "headline"})[0].text
    )


def test_a_problem_with_many_faces_is_called_by_its_kind(bench, parsed):
    batch = bench({"title": "a"}, {"title": "b"}, {"title": "c"})
    batch.fail("invalid-request", "no picture a.jpg")
    batch.fail("invalid-request", "no picture b.jpg")
    batch.done(quality=Quality(False, {"not_black": {"passed": False, "grade": "failure"}}))
    page = parsed(batch.report().html)
    first, second = page.all("bdi", **{"class": "what"})
    assert (first.text, second.text) == ("invalid request", "did not pass: not black")
    rows = page.all("tr", **{"class": "item"})
    assert "no picture a.jpg" in rows[0].text
    assert "no picture b.jpg" in rows[1].text


def test_a_placeholder_is_no_video(bench, parsed):
    batch = bench({"title": "a"}, {"title": "b"})
    batch.done()
    lease = batch.claim()
    placeholder = batch.folder / "enhanced_placeholder_20261124T060000000Z.json"
    placeholder.write_text("{}")
    batch.catalog.jobs.finish(lease, clip_id=None, path=placeholder, cached=False)
    files = batch.report()
    assert (files.figures.videos, files.figures.made) == (1, 1)
    assert files.figures.counts["done"] == 2
    page = parsed(files.html)
    assert len(page.all("video")) == 1
    assert placeholder.name not in " ".join(page.links)
    assert "only a placeholder was made" in page.all("section", id="problems")[0].text


def test_what_only_looks_generated_is_labelled(bench, parsed):
    batch = bench(*({"title": text} for text in "abc"))
    batch.done(kind="animated-stills", tier="image-sequence")
    batch.done(synthetic=True, checkpoint="tiny-svd", quality=Quality(False))
    batch.done()
    page = parsed(batch.report().html)
    cards = page.all("article")
    badges = [
        [word for word in ("animated stills", "synthetic") if word in one.text] for one in cards
    ]
    assert badges == [["animated stills"], ["synthetic"], []]
    assert [one["data-tags"].split() for one in cards] == [
        ["done", "video", "animated-stills"],
        ["done", "video", "generated", "synthetic"],
        ["done", "video", "generated"],
    ]
    (overview,) = page.all("section", **{"class": "overview"})
    assert "1 video is animated stills" in " ".join(overview.text.split())
    assert "1 video is synthetic: from random weights" in " ".join(overview.text.split())
    assert "fake" not in overview.text


def test_what_the_fake_tier_made_up_is_not_said_to_have_weights(bench, parsed):
    batch = bench({"title": "a"}, {"title": "b"})
    batch.done(synthetic=True, tier="fake", checkpoint=None)
    files = batch.report()
    (overview,) = parsed(files.html).all("section", **{"class": "overview"})
    told = " ".join(overview.text.split())
    assert "1 video is synthetic: frames that the fake tier made up" in told
    assert "weights" not in told
    batch.done(synthetic=True, checkpoint="tiny-svd")
    (overview,) = parsed(batch.report().html).all("section", **{"class": "overview"})
    assert "1 video is synthetic: from random weights" in " ".join(overview.text.split())


@pytest.mark.parametrize(
    ("wanted", "made", "told", "looks"),
    [
        (2, 2, "All 2 videos are ready; 2 cancelled.", "headline"),
        (1, 1, "The video is ready; 3 cancelled.", "headline"),
        (2, 1, "Not finished: 1 of 2 videos are ready; 2 cancelled, 1 still to do.", "open"),
        (0, 0, "No video is wanted any more; 4 cancelled.", "headline"),
    ],
)
def test_what_was_cancelled_leaves_nothing_unfinished(bench, parsed, wanted, made, told, looks):
    batch = bench(*({"title": str(number)} for number in range(4)))
    jobs = batch.catalog.jobs
    gone = [job.id for job in jobs.jobs(batch.batch.id)][wanted:]
    jobs.cancel(batch.batch.id, gone)
    for _ in range(made):
        batch.done()
    files = batch.report()
    (headline,) = parsed(files.html).all("p", **{"class": "headline"})
    assert headline.text == told
    assert headline["class"].split()[-1] == looks
    document = json.loads(files.json.read_text())
    for counts in (document["figures"], jobs.batch("Lessons").to_json()):
        assert (counts["total"], counts["wanted"]) == (4, wanted)


def test_rows_that_were_left_out_are_told_with_their_reasons(bench, parsed):
    bad = [
        Problem(5, "frames", "<b>-1</b> frames make no video", "Write 14 to 25."),
        Problem(7, None, "2 cells for 3 columns", "Write a separator.", picture="a&b.png"),
    ]
    batch = bench({"title": "a"}, {"title": "b"}, skipped=Skipped(250, tuple(bad), 248))
    batch.done()
    batch.done()
    files = batch.report()
    page = parsed(files.html)
    (headline,) = page.all("p", **{"class": "headline"})
    assert headline.text == "All 2 videos are ready; 250 rows left out as bad."
    assert headline["class"].split() == ["headline", "doubtful"]
    (section,) = page.all("section", id="left-out")
    told = " ".join(section.text.split())
    assert "250 rows of the manifest were bad, and no clips were made of them" in told
    assert "<b>-1</b> frames make no video. Write 14 to 25." in told
    assert "a&b.png" in told
    assert "248 more are told by" in told
    assert "#left-out" in page.links

    document = json.loads(files.json.read_text())
    assert document["batch"]["skipped"]["rows"] == document["figures"]["skipped_rows"] == 250
    assert [one["row"] for one in document["batch"]["skipped"]["problems"]] == [5, 7]
    lines = list(csv.DictReader(files.csv.read_text(encoding="utf-8-sig").splitlines()))
    assert [(one["row"], one["state"], one["reason"]) for one in lines[2:]] == [
        ("5", "left-out", "frames: <b>-1</b> frames make no video"),
        ("7", "left-out", "2 cells for 3 columns"),
        ("", "left-out", "248 more rows were left out as bad"),
    ]


def test_what_was_not_made_is_told(bench, parsed):
    batch = bench(*({"title": f"clip {number}"} for number in range(3)))
    batch.claim()
    jobs = batch.catalog.jobs
    jobs.cancel(batch.batch.id, [jobs.jobs(batch.batch.id)[1].id])
    page = parsed(batch.report().html)
    (part,) = page.all("section", id="unmade")
    assert "1 running, 1 waiting, 1 cancelled" in part.text
    assert [one["data-tags"] for one in page.all("tr", **{"class": "item"})] == [
        "running",
        "queued",
        "cancelled",
    ]
    assert page.all("video") == []


def test_every_state_has_a_name_a_colour_and_a_filter(bench, parsed):
    assert set(page_module._STATE_NAMES) == set(STATES)
    batch = bench({"title": "a"})
    batch.done()
    page = parsed(batch.report().html)
    (style,) = page.all("style")
    for name in page_module._STATE_NAMES.values():
        assert f".state-{name} " in style.text
    offered = {one["value"] for one in page.all("option")}
    assert {"failed", "cancelled", "queued", "running", "video"} <= offered


def test_many_videos_come_in_pages(bench, parsed, monkeypatch):
    monkeypatch.setattr(page_module, "PER_PAGE", 2)
    batch = bench(*({"title": f"clip {number}"} for number in range(5)))
    for _ in range(5):
        batch.done()
    files = batch.report()
    assert [path.name for path in files.pages] == ["report.html", "report-2.html", "report-3.html"]
    shown = [[one.text for one in parsed(path).all("article")] for path in files.pages]
    assert [len(articles) for articles in shown] == [2, 2, 1]
    assert "clip 4" in shown[2][0]
    for path in files.pages:
        links = [link for link in parsed(path).links if link.startswith("report")]
        assert {other.name for other in files.pages if other != path} <= set(links)


@pytest.mark.parametrize("count", [0, 1])
def test_small_batches(bench, parsed, count):
    batch = bench(*({"title": "a"},) * count)
    for _ in range(count):
        batch.done()
    page = parsed(batch.report().html)
    (headline,) = page.all("p", **{"class": "headline"})
    assert headline.text == ("The video is ready." if count else "This batch has no jobs.")


def test_a_clip_removed_from_the_catalog_is_still_shown(bench, parsed):
    batch = bench({"title": "a"})
    video = batch.done("image_sequence_video_20261124T060000000Z")
    content = video.read_bytes()
    batch.catalog.remove(batch.catalog.clips())
    video.write_bytes(content)
    page = parsed(batch.report().html)
    (card,) = page.all("article")
    assert "animated stills" in card.text
    assert "no longer in the catalog" in card.text


def test_names_become_links_that_are_no_schemes():
    assert href("a b/ü#?%.mp4") == "a%20b/%C3%BC%23%3F%25.mp4"
    assert href("javascript:alert(1).mp4") == "javascript%3Aalert%281%29.mp4"
    assert href("../x\udcff.mp4") == "../x%FF.mp4", "a name that is no UTF-8"
    assert href("C:/a:b.mp4") == "C%3A/a%3Ab.mp4"
    assert href("/other drive/a.mp4") == "file:///other%20drive/a.mp4"
