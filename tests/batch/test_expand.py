from __future__ import annotations

import json
import time

import pytest
from batch.reading import jobs_of, problems_of, told

from svd_local.batch import expand
from svd_local.errors import InvalidRequest
from svd_local.request import ClipRequest


def test_who_goes_before_whom(opened) -> None:
    text = (
        '{"defaults": {"quality": "high", "fps": 6, "steps": 30}}\n'
        '{"prompt": "a", "quality": "fast"}\n{"prompt": "b"}\n'
    )
    jobs = jobs_of(opened(text, "m.jsonl", defaults={"quality": "standard", "fps": "8"}))
    assert jobs[0].fields == {"prompt": "a", "quality": "fast", "fps": "8", "steps": 30}
    assert jobs[1].fields == {"prompt": "b", "quality": "standard", "fps": "8", "steps": 30}


def test_fields_are_json_and_a_request(opened) -> None:
    text = "prompt,images,seed,size,no-cache\na,pictures/desk.png|b.png,7,512x320,yes\n"
    (job,) = jobs_of(opened(text))
    assert json.loads(json.dumps(job.fields)) == job.fields
    request = ClipRequest(**job.fields)
    assert (request.seed, request.size, request.no_cache) == (7, (512, 320), True)
    assert [path.name for path in (request.image, *request.images)] == ["desk.png", "b.png"]


def test_counts_make_seeds(opened) -> None:
    jobs = jobs_of(opened("prompt,seed,count\na,7,3\nb,,2\nc,,\nd,,2.0\n"))
    assert [(job.row, job.index, job.fields.get("seed")) for job in jobs] == [
        (2, 0, 7),
        (2, 1, 8),
        (2, 2, 9),
        (3, 3, None),
        (3, 4, None),
        (4, 5, None),
        (5, 6, None),
        (5, 7, None),
    ]
    assert len({job.key for job in jobs}) == len(jobs)
    assert "count" not in jobs[0].fields


@pytest.mark.parametrize("count", ["0", "-1", "1001", "1.5", "many", "9" * 400, "\u0663\u0663x"])
def test_counts_that_are_none(opened, count: str) -> None:
    assert told(problems_of(opened(f"prompt,count\na,{count}\n"))) == [(2, "count")]


def test_seeds_that_leave_the_range(opened) -> None:
    text = f"prompt,seed,count\na,{2**63 - 2},2\nb,{2**63 - 2},3\nc,-1,\n"
    assert told(problems_of(opened(text))) == [(3, "seed"), (4, "seed")]


def test_priorities(opened) -> None:
    manifest = opened("prompt,priority\na,5\nb,\nc,-2\nd,high\n")
    assert [job.priority for row in manifest.rows() for job in row.jobs] == [5, 0, -2]
    assert told(problems_of(manifest)) == [(5, "priority")]


def test_all_that_is_wrong_with_a_row_is_told(opened) -> None:
    text = "prompt,image,frames,size,vram budget,count,priority,title\n${x},../a.png,-1,9x9,banana,0,x,ok\n"
    assert {field for _, field in told(problems_of(opened(text)))} == {
        "prompt",
        "image",
        "frames",
        "size",
        "vram_budget",
        "count",
        "priority",
    }


def test_a_row_with_nothing_to_show(opened) -> None:
    assert told(problems_of(opened("prompt,title\n,a\n"))) == [(2, "prompt")]


def test_keys_stay_when_the_manifest_is_edited(opened) -> None:
    rows = ["a,1", "b,2", "b,2", "c,3"]

    def keys(*lines: str, name: str = "lessons.csv") -> list[str]:
        return [job.key for job in jobs_of(opened("\n".join(["prompt,seed", *lines]), name))]

    before = keys(*rows)
    assert len(set(before)) == 4
    assert keys("new,9", "", *reversed(rows), name="other.csv")[1:] == [
        before[3],
        before[1],
        before[2],
        before[0],
    ]
    assert keys("a,1", "b,3") != before[:2]


def test_keys_are_of_the_folder_and_not_of_the_name(opened) -> None:
    def key(template: str) -> str:
        manifest = opened("prompt,seed\na,1\n", output_template=template)
        return jobs_of(manifest)[0].key

    assert key("x/a") == key("x/b") == key("x/")
    assert key("x/a") != key("y/a")


def test_duplicates_are_jobs_of_their_own(opened) -> None:
    manifest = opened("prompt,seed,count\na,,\nb,1,\na,,\nb,,\na,,2\n")
    rows = list(manifest.rows())
    assert [row.same_as for row in rows] == [None, None, 2, None, 2]
    assert len({job.key for job in jobs_of(manifest)}) == 6


def test_index_counts_bad_rows_too(opened) -> None:
    bad = jobs_of_good(opened("prompt,frames,count\na,,\nb,-1,3\nc,,\n"))
    whole = jobs_of_good(opened("prompt,frames,count\na,,\nb,14,3\nc,,\n"))
    assert bad[-1].index == whole[-1].index == 4


def jobs_of_good(manifest):
    return [job for row in manifest.rows() for job in row.jobs]


def test_names(opened) -> None:
    text = "lesson,title,prompt,image,seed,count\nFirst/Aid,A: ${lesson},p,pictures/desk.png,7,2\n"
    manifest = opened(text, output_template="{Lesson}/{index:03d}_{row}_{seed}_{image}_{title}")
    assert [(job.folder, job.name) for job in jobs_of(manifest)] == [
        ("First_Aid", "000_2_7_desk_A_ First_Aid"),
        ("First_Aid", "001_2_8_desk_A_ First_Aid"),
    ]


def test_names_that_are_taken_get_numbers(opened) -> None:
    text = "title,prompt,count\nA,p,2\na_2,p,\nÄ,p,\na\u0308,p,\nA,p,\n"
    manifest = opened(text, output_template="{title}")
    assert [job.name for job in jobs_of(manifest)] == ["A", "A_2", "a_2_2", "Ä", "ä_2", "A_3"]
    assert [row.renamed for row in manifest.rows()] == [
        None,
        ("a_2", 2),
        None,
        ("ä", 4),
        ("A", 2),
    ]


def test_thousands_of_equal_names_are_numbered_quickly(opened) -> None:
    manifest = opened("title,prompt\n" + "A,p\n" * 5000, output_template="{title}")
    began = time.monotonic()
    assert len({job.name for job in jobs_of(manifest)}) == 5000
    assert time.monotonic() - began < 20


def test_rows_that_give_no_name(opened) -> None:
    text = "title,prompt,part\nA,p,1\n,p,2\nB,p,x\n"
    manifest = opened(text, output_template="{part:02d}_{title}")
    assert told(problems_of(manifest)) == [(3, "title"), (4, "part")]
    assert "output template" in problems_of(manifest)[0].reason


def test_a_template_of_columns_that_are_not_there(opened) -> None:
    with pytest.raises(InvalidRequest, match="no column leson") as caught:
        opened("lesson,prompt\na,b\n", output_template="{leson}")
    assert "lesson" in caught.value.hint


def test_folders_of_rows(opened) -> None:
    text = "prompt,out\na,week 1/\nb,../up\nc,/abs\nd,\ne,week 1/CON\n"
    manifest = opened(text, output_template="x/{prompt}")
    assert [(job.folder, job.name) for job in jobs_of_good(manifest)] == [
        ("week 1/x", "a"),
        ("x", "d"),
        ("week 1/_CON/x", "e"),
    ]
    assert told(problems_of(manifest)) == [(3, "out"), (4, "out")]
    assert all("out" not in job.fields for job in jobs_of_good(manifest))


def test_more_clips_than_anybody_means(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expand, "MAX_JOBS", 10)
    *_, last = opened("prompt,count\na,8\nb,3\nc,\n").rows()
    assert (last.number, last.fatal) == (3, True)


def test_options_that_are_no_fields(opened) -> None:
    with pytest.raises(InvalidRequest, match="qualty"):
        opened("prompt\na\n", defaults={"qualty": "fast"})
