"""The CSV opens in a spreadsheet and runs nothing; the JSON says the same and more."""

from __future__ import annotations

import csv
import json

from svd_local.batch.report.tables import COLUMNS
from svd_local.result import Attempt, Correction


def rows(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


FORMULAS = (
    *("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "  =1", '"=1', "'=1", " \" '=1"),
    *("\u00a0=1", "\u202e=1", "\ufeff=1", "＝1", "＠x"),
)


def test_what_starts_like_a_formula_is_text(bench):
    batch = bench(*({"title": text, "prompt": f"x{text}"} for text in FORMULAS))
    for text in FORMULAS:
        batch.fail("code", text)
    for row, text in zip(rows(batch.report().csv), FORMULAS, strict=True):
        assert row["title"] == row["problem"] == row["reason"] == f"'{text}"
        assert row["prompt"] == f"x{text}", "within a text it is harmless"


def test_the_file_is_what_excel_reads(bench):
    batch = bench({"title": 'Größe, "quoted"\nand 🎬; more'}, {"title": "2"})
    batch.done(seed=2**53, elapsed_s=8.125, fps=7.0)
    files = batch.report()
    raw = files.csv.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    assert raw.split(b"\r\n")[0].decode("utf-8-sig") == ",".join(COLUMNS)
    first, second = rows(files.csv)
    assert first["title"] == 'Größe, "quoted"\nand 🎬; more'
    assert (first["seed"], first["elapsed_s"]) == (str(2**53), "8.125")
    assert (first["video"], first["quality_passed"]) == (
        "sd_video_20261124T060000000Z.mp4",
        "true",
    )
    assert (second["state"], second["video"], second["seed"]) == ("queued", "", "")


def test_numbers_stay_numbers_also_below_zero(bench):
    batch = bench({"title": "a"})
    batch.done(seed=-5)
    assert rows(batch.report().csv)[0]["seed"] == "-5"


def test_lists_are_told_in_one_cell(bench):
    batch = bench({"title": "a", "images": ["/a/one.jpg", "/b/two.jpg"]})
    batch.done(
        warnings=("too dark", "too loud"),
        corrections=(Correction("frames", 40, 25, "generated clips have at most 25"),),
        attempts=(Attempt("local", "unavailable", "x", "no GPU"), Attempt("webui", "ok")),
    )
    (row,) = rows(batch.report().csv)
    assert row["pictures"] == "one.jpg | two.jpg"
    assert row["warnings"] == "too dark | too loud"
    assert row["corrections"] == "frames: 40 became 25, generated clips have at most 25"
    assert row["missed_tiers"] == "local: no GPU"


def test_the_document_has_the_same_and_more(bench):
    batch = bench({"title": "<b>"}, {"title": "b"}, {"title": "c"}, folders=(None, "sub"))
    video = batch.done()
    batch.done()
    batch.fail("out-of-memory", "too small", "Close programs.")
    files = batch.report()
    document = json.loads(files.json.read_text())
    assert (document["format"], document["batch_id"]) == ("svd-local batch report", batch.batch.id)
    assert document["figures"] == json.loads(json.dumps(files.figures.to_json()))
    assert document["figures"]["counts"] == document["batch"]["counts"]
    assert [job["row"] for job in document["jobs"]] == [2, 3, 4]
    first, second, third = document["jobs"]
    assert first["files"] == {
        "video": video.name,
        "poster": f"{video.stem}.jpg",
        "manifest": None,
        "sheet": None,
        "thumbnail": None,
    }
    assert second["files"]["video"].startswith("sub/")
    assert third["problem"] == third["reason"]
    assert third["reason"]["hint"] == "Close programs."
    assert [row["state"] for row in rows(files.csv)] == [job["state"] for job in document["jobs"]]


def test_lone_surrogates_and_nul_break_nothing(bench, parsed):
    from svd_local.batch.report.entry import Entry

    batch = bench({"title": "a\ud800b", "prompt": "c\x00d"})
    files = batch.report()
    assert Entry(**json.loads(files.json.read_text())["jobs"][0]).title == "a\ud800b"
    assert rows(files.csv)[0]["title"] == "a?b"
    assert rows(files.csv)[0]["prompt"] == "cd"
    assert "a\ufffdb" in [one.text for one in parsed(files.html).all("bdi")]
