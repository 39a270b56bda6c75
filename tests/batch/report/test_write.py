"""The report's files: whole, in their place, and in nobody's way."""

from __future__ import annotations

import errno
import json
import os
from types import SimpleNamespace

import pytest
from PIL import Image

from svd_local.batch.report import page as page_module
from svd_local.batch.report import write as write_module
from svd_local.errors import DiskFull, StorageFailed
from svd_local.storage import sweep


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_lies_in_the_batchs_folder(bench):
    batch = bench({"title": "a"})
    video = batch.done()
    files = batch.report()
    assert (files.html, files.csv, files.json) == tuple(
        batch.folder / f"report.{end}" for end in ("html", "csv", "json")
    )
    assert names(batch.folder) == sorted(
        [video.name, f"{video.stem}.jpg", "report.csv", "report.html", "report.json"]
    )
    json.dumps(files.to_json())


def test_a_batch_that_made_nothing_has_a_report_too(bench):
    batch = bench({"title": "a"})
    batch.fail()
    assert batch.report().html.is_file()


def test_the_next_report_takes_its_place(bench, monkeypatch):
    monkeypatch.setattr(page_module, "PER_PAGE", 1)
    batch = bench(*({"title": text} for text in "abc"))
    videos = [batch.done(), batch.done(), batch.done()]
    assert len(batch.report().pages) == 3
    videos[1].unlink()
    videos[2].unlink()
    assert len(batch.report().pages) == 1
    assert [name for name in names(batch.folder) if name.startswith("report")] == [
        "report.csv",
        "report.html",
        "report.json",
    ]


def test_another_batchs_report_is_left_alone(bench):
    first = bench({"title": "a"}, name="First")
    first.done()
    second = bench({"title": "b"}, name="Second: <week 2>", folder=first.folder)
    second.done("other")
    kept = first.report().html.read_bytes()
    files = second.report()
    assert files.html.name == "report_second-week-2.html"
    assert second.report().html == files.html, "and found again"
    assert first.report().html.name == "report.html"
    assert b"<h1><bdi>First</bdi></h1>" in kept


@pytest.mark.parametrize("taken", ["report.mp4", "report.html", "report.csv", "report.json"])
def test_a_file_of_that_name_is_left_alone(bench, taken):
    batch = bench({"title": "a"})
    batch.folder.mkdir(parents=True)
    (batch.folder / taken).write_text("{}")
    assert batch.report().html.name == "report_lessons.html"
    assert (batch.folder / taken).read_text() == "{}"


def test_one_that_is_cut_short_leaves_the_old_one(bench):
    batch = bench({"title": "a"})
    old = batch.report().html.read_bytes()
    batch.done()
    before = names(batch.folder)

    def stop(done, total):
        assert (done, total) == (1, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.report(progress=stop)
    assert (batch.folder / "report.html").read_bytes() == old
    assert names(batch.folder) == before
    assert sweep(batch.folder, 0) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_refuses_is_named(bench, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(StorageFailed, match="locked"):
        bench({"title": "a"}).report(folder=locked)


def test_a_folder_that_is_a_file_is_named(bench, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageFailed, match="file"):
        bench({"title": "a"}).report(folder=tmp_path / "file")


def test_elsewhere_the_links_still_lead_to_the_videos(bench, parsed, tmp_path):
    batch = bench({"title": "a"})
    video = batch.done()
    files = batch.report(folder=tmp_path / "elsewhere")
    (shown,) = parsed(files.html).all("video")
    assert (files.html.parent / shown["src"]).resolve() == video.resolve()


def test_sheets_are_made_once_and_dropped_with_their_clip(bench, parsed):
    batch = bench({"title": "a"}, {"title": "b"})
    kept, doomed = batch.done(), batch.done(frames=None)
    files = batch.report(sheets=True)
    pictures = batch.folder / "report_files"
    assert len(names(pictures)) == 4
    document = json.loads(files.json.read_text())
    sheet = batch.folder / document["jobs"][0]["files"]["sheet"]
    with Image.open(sheet) as picture:
        assert picture.width == 5 * 240 + 4 * 2
    (first, _) = parsed(files.html).all("img")
    assert (batch.folder / first["src"]) == sheet
    os.utime(sheet, ns=(1, 1))
    doomed.unlink()
    batch.report(sheets=True)
    assert len(names(pictures)) == 2
    assert sheet.stat().st_mtime_ns == 1, "not made again"
    os.utime(kept, ns=(5, 5))
    batch.report(sheets=True)
    assert not sheet.exists(), "a file that was touched may be another"
    assert len(names(pictures)) == 2


@pytest.fixture
def free(monkeypatch):
    """What is free on the device, in bytes: a number, or one for each time it is asked."""

    def be(*bytes_, then=None):
        told = iter(bytes_)
        usage = "svd_local.batch.space.shutil.disk_usage"
        monkeypatch.setattr(usage, lambda _: SimpleNamespace(free=next(told, then)))

    return be


GIB = 2**30


def test_sheets_leave_the_reserve_alone_and_the_rest_is_reported(bench, free):
    batch = bench(*({"title": text} for text in "abc"))
    for _ in range(2):
        batch.done()
    free(then=2 * GIB)
    old = batch.report(sheets=True, reserve=GIB)
    assert (old.without_sheets, old.short) == (0, None)
    batch.done()
    free(then=GIB + 90 * 2**10)  # enough for a page, not for a sheet beside it
    files = batch.report(sheets=True, reserve=GIB)
    assert files.without_sheets == 1
    assert "1.0 GiB free, of which 1.0 GiB are kept" in files.short
    shown = [job["files"]["sheet"] for job in json.loads(files.json.read_text())["jobs"]]
    assert [sheet is not None for sheet in shown] == [True, True, False], "what is there is shown"
    free(then=2 * GIB)
    assert batch.report(sheets=True, reserve=GIB).without_sheets == 0


def test_pages_are_written_where_the_disk_is_what_went_wrong(bench, free):
    """The batch pauses for want of room, and is stopped: that it did is to be read somewhere."""
    batch = bench({"title": "a"})
    batch.done()
    free(then=GIB - 1)
    files = batch.report(sheets=True, reserve=GIB)
    assert files.without_sheets == 1
    assert "and 1.0 GiB are kept" in files.short


def test_without_room_the_old_report_stays(bench, free):
    batch = bench({"title": "a"}, {"title": "b"})
    batch.done()
    free(then=2 * GIB)
    old = batch.report(reserve=GIB).html.read_bytes()
    batch.done()
    before = names(batch.folder)
    for bytes_ in ((), (2 * GIB,), (2 * GIB, 2 * GIB)):  # from the beginning, or later on
        free(*bytes_, then=GIB // 2 - 1)
        with pytest.raises(DiskFull, match=r"of the 1\.0 GiB that are kept") as caught:
            batch.report(reserve=GIB)
        assert "SVD_LOCAL_DISK_RESERVE" in caught.value.hint
    assert (batch.folder / "report.html").read_bytes() == old
    assert names(batch.folder) == before


def test_sheets_that_were_too_many_are_taken_back(bench, free):
    batch = bench({"title": "a"})
    batch.done()
    # Asked before the sheet, and behind it; then another has taken the room, till the sheet is gone.
    free(2 * GIB, 2 * GIB, GIB // 2 - 1, then=2 * GIB)
    files = batch.report(sheets=True, reserve=GIB)
    assert files.without_sheets == 1
    assert names(batch.folder / "report_files") == []
    assert files.html.is_file()


def test_sheets_are_taken_back_where_the_device_says_that_it_is_full(bench, monkeypatch):
    batch = bench({"title": "a"})
    batch.done()
    write_json, pictures = write_module.write_json, batch.folder / "report_files"

    def write(report, path):
        if list(pictures.glob("*.jpg")):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_json(report, path)

    monkeypatch.setattr(write_module, "write_json", write)
    files = batch.report(sheets=True)
    assert files.without_sheets == 1
    assert "No space left" in files.short


def test_a_sheet_that_finds_no_room_is_left_out(bench, monkeypatch):
    def full(video, sheet, **_):
        raise DiskFull("no room in the quota", hint="")

    monkeypatch.setattr("svd_local.media.sheet.write_sheet", full)
    batch = bench({"title": "a"}, {"title": "b"})
    batch.done()
    batch.done()
    files = batch.report(sheets=True)
    assert (files.without_sheets, files.short) == (2, "no room in the quota")


def test_a_video_that_cannot_be_read_is_a_problem(bench, parsed):
    batch = bench({"title": "a"}, {"title": "b"})
    batch.done()
    batch.done(content=b"no video at all")
    files = batch.report(sheets=True)
    assert [(one.code, one.jobs) for one in files.figures.problems] == [("unreadable", 1)]
    page = parsed(files.html)
    assert "sd_video_20261124T060000001Z.mp4" in page.all("section", id="problems")[0].text
    assert len(page.all("article")) == 2


def test_a_long_batch_is_read_in_pages_and_listed_in_part(bench, monkeypatch):
    from svd_local.batch.report import gather

    monkeypatch.setattr(gather, "_AT_ONCE", 7)
    monkeypatch.setattr(gather, "LISTED", 10)
    batch = bench(*({"title": f"clip {number}"} for number in range(40)))
    jobs = batch.catalog.jobs
    for _ in range(15):
        batch.fail()
    batch.fail("rare")
    jobs.cancel(batch.batch.id, [job.id for job in jobs.jobs(batch.batch.id, state="queued")[:12]])
    seen = []
    files = batch.report(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(7, 40), (14, 40), (21, 40), (28, 40), (35, 40), (40, 40)]
    text = " ".join(files.html.read_text().split())
    assert text.count('data-tags="failed problem"') == 10 + 1, "a frequent one hides no rare one"
    assert "5 more are in the" in text
    assert text.count('data-tags="queued"') == text.count('data-tags="cancelled"') == 10
    assert "4 more are in the" in text
    document = json.loads(files.json.read_text())
    assert [job["row"] for job in document["jobs"]] == list(range(2, 42))
    assert files.figures.to_json()["problems"][0]["jobs"] == 15


@pytest.mark.long
def test_memory_does_not_grow_with_the_batch(bench, tmp_path):
    import tracemalloc

    from sqlalchemy import update

    from svd_local.catalog.models import JobRow

    peaks = []
    for count in (2000, 8000):
        fields = ({"title": f"Lesson {number}", "prompt": "words " * 50} for number in range(count))
        batch = bench(*fields, name=str(count), folder=tmp_path / str(count))
        video = batch.done()
        (first,) = batch.catalog.jobs.jobs(batch.batch.id, state="done")
        with batch.catalog._ready().writing() as session:
            done = {"state": "done", "path": str(video), "clip_id": first.clip_id}
            session.execute(update(JobRow).where(JobRow.batch_id == batch.batch.id).values(done))
        tracemalloc.start()
        assert batch.report().figures.videos == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What is held of a video is its seconds and its group, below 300 bytes.
    assert peaks[1] - peaks[0] < 6000 * 300
