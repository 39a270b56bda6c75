from __future__ import annotations

import pytest
from batch.reading import jobs_of, problems_of, told

from svd_local.errors import InvalidRequest


def test_what_is_written_is_what_is_meant(opened) -> None:
    text = """
defaults:
  quality: fast
jobs:
  - title: 2024-01-01        # no date
    prompt: No               # no boolean
    guidance: 1:3            # no base 60
    size: [512, 320]
    seed: 007
  - prompt: |
      two
      lines
    quality: ~
    allow_approximate: yes
"""
    one, two = jobs_of(opened(text, "m.yaml"))
    assert (one.row, two.row) == (5, 10)
    assert one.fields == {
        "title": "2024-01-01",
        "prompt": "No",
        "guidance": "1:3",
        "size": ["512", "320"],
        "seed": 7,
        "quality": "fast",
    }
    assert two.fields == {"prompt": "two\nlines\n", "quality": "fast", "allow_approximate": "yes"}


def test_a_list_alone_and_merged_anchors(opened) -> None:
    text = "- &base {prompt: a, steps: 10}\n- {<<: *base, steps: 20}\n"
    jobs = jobs_of(opened(text, "m.yml"))
    assert [job.fields for job in jobs] == [
        {"prompt": "a", "steps": "10"},
        {"prompt": "a", "steps": "20"},
    ]


def test_too_many_jobs(opened) -> None:
    assert len(jobs_of(opened("- {prompt: a}\n" * 5000, "m.yaml"))) == 5000
    with pytest.raises(InvalidRequest, match="5,001 jobs") as caught:
        opened("- {prompt: a}\n" * 5001, "m.yaml")
    assert "JSON Lines" in caught.value.hint


def test_aliases_that_multiply(opened) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    bomb = "jobs:\n- {prompt: a}\ndefaults:\n  " + "\n  ".join(lines)
    with pytest.raises(InvalidRequest, match="aliases"):
        opened(bomb, "m.yaml")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("jobs: &a [*a]\n", "aliases"),
        ("jobs:\n- !!python/object/apply:os.system [ls]\n", "tag"),
        ("jobs:\n- {prompt: !custom a}\n", "tag"),
        ("jobs: [" + "[" * 60 + "]" * 60 + "]\n", "deep"),
        ("jobs: " + "[" * 200_000, "the manifest cannot be taken"),
        ("jobs:\n- {prompt: a\n", "no YAML"),
        ("jobs:\n- prompt: a\n- prompt: b\x00c\n", "line 3: it holds a NUL"),
        ("jobs: a\n", "no list"),
        ("rows: []\n", "rows"),
        ("defaults: {}\n", "no jobs"),
        ("defaults: 1\njobs: []\n", "defaults"),
        ("? [a]\n: b\n", "at the top"),
        ("--- a\n--- b\n", "no YAML"),
    ],
)
def test_files_that_are_none(opened, text: str, what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        opened(text, "m.yaml")


@pytest.mark.parametrize("job", ["a", "[prompt]", "{prompt: a, prompt: b}", "{? [a] : b}"])
def test_jobs_that_are_none(opened, job: str) -> None:
    text = f"jobs:\n- {{prompt: a}}\n- {job}\n"
    assert told(problems_of(opened(text, "m.yaml"))) == [(3, None)]


@pytest.mark.parametrize("text", ["", "# nothing\n", "jobs:\n", "jobs: []\n"])
def test_nothing_in_it(opened, text: str) -> None:
    assert list(opened(text, "m.yaml").rows()) == []
