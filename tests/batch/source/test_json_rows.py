from __future__ import annotations

import json

import pytest
from batch.reading import jobs_of, problems_of, told

from svd_local.errors import InvalidRequest


def test_a_header_and_rows(opened) -> None:
    text = (
        '\n{"defaults": {"quality": "fast", "Vram-Budget": "4GiB"}}\r\n\n'
        '{"prompt": "saws ☺", "frames": 14, "size": [512, 320]}\n'
        '{"prompt": "axes", "quality": "high", "seed": null, "vram_budget": ""}'
    )
    one, two = jobs_of(opened(text, "lessons.jsonl"))
    assert one.row == 4
    assert one.fields == {
        "prompt": "saws ☺",
        "frames": 14,
        "size": [512, 320],
        "quality": "fast",
        "vram_budget": "4GiB",
    }
    assert (two.row, two.fields) == (5, {"prompt": "axes", "quality": "high"})


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        ("prompt", None, "no JSON"),
        ('{"prompt": "a"', None, "at its end"),
        ('["a"]', None, "no JSON object"),
        ('{"prompt": "a", "noise": NaN}', None, "NaN is no number"),
        ('{"prompt": "a", "prompt": "b"}', None, "'prompt' is given twice"),
        ('{"prompt": "a", "Prompt": "b"}', "prompt", "given twice"),
        ('{"prompt": "a", "seed": ' + "9" * 5000 + "}", None, "no JSON"),
        ("[" * 100_000, None, "no JSON"),
        ('{"prompt": {"a": 1}}', "prompt", "valid string"),
        ('{"prompt": "a", "promt": "b"}', "promt", "no field of a clip"),
        ('{"prompt": "a", "defaults": {}}', "defaults", "no field of a clip"),
        ('{"prompt": "' + "x" * 200_000 + '"}', "prompt", "more than 100,000 characters"),
        ('{"prompt": "' + "x" * 10_000_000 + '"}', None, "more than 1,000,000 characters"),
        ('{"prompt": "a\\u0000b"}', "prompt", "NUL"),
        ('{"prompt": "a\x00b"}', None, "a NUL as character 14"),
        ("\x00" * 4096, None, "nothing but 4,096 NULs"),
        ('{"prompt": "a", "image": 7}', "image", ""),
        ('{"prompt": "a", "image": "b", "images": {"b": 1}}', "images", ""),
    ],
)
def test_lines_that_are_none(opened, line: str, field: str | None, reason: str) -> None:
    manifest = opened(
        f'{{"title": "t", "prompt": "before"}}\n{line}\n{{"prompt": "after"}}\n', "m.jsonl"
    )
    problems = problems_of(manifest)
    assert {problem.row for problem in problems} == {2}
    assert field in {problem.field for problem in problems}
    assert reason in problems[0].reason
    assert [job.row for row in manifest.rows() for job in row.jobs] == [1, 3]


@pytest.mark.parametrize("header", ['{"defaults": 1}', '{"defaults": {}, "prompt": "a"}'])
def test_headers_that_are_none(opened, header: str) -> None:
    with pytest.raises(InvalidRequest, match="line 1"):
        opened(header, "m.jsonl")


def test_a_list_is_refused_with_advice(opened) -> None:
    with pytest.raises(InvalidRequest, match="one JSON list") as caught:
        opened(json.dumps([{"prompt": "a"}], indent=1), "m.json")
    assert "jq" in caught.value.hint


def test_a_default_that_nobody_uses(opened) -> None:
    text = '{"defaults": {"qualty": "fast", "course": "c"}}\n{"prompt": "${course}"}\n'
    assert told(problems_of(opened(text, "m.jsonl"))) == [(1, "qualty")]


def test_it_must_be_utf8(opened) -> None:
    with pytest.raises(InvalidRequest, match="line 2"):
        opened('{"prompt": "a"}\n{"prompt": "ü"}\n'.encode("latin-1"), "m.jsonl")


def test_an_empty_file(opened) -> None:
    assert list(opened("", "m.jsonl").rows()) == []
