from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import islice

import pytest

from svd_local.errors import InvalidRequest
from svd_local.storage import file_prefix
from svd_local.storage.names import check_stem, parse_stem, stems, wanted_stems


@pytest.mark.parametrize(
    ("kind", "synthetic", "expected"),
    [
        ("generated", False, "sd_video"),
        ("generated", True, "synthetic_video"),
        ("animated-stills", False, "image_sequence_video"),
        ("placeholder", False, "enhanced_placeholder"),
    ],
)
def test_the_prefix_says_what_the_file_is(kind, synthetic, expected):
    assert file_prefix(kind, synthetic=synthetic) == expected


def test_names_are_in_utc_and_go_on_a_millisecond_each():
    eastern = timezone(timedelta(hours=-5))
    at = datetime(2025, 12, 31, 18, 59, 59, 999_900, tzinfo=eastern)
    assert list(islice(stems("sd_video", at), 2)) == [
        "sd_video_20251231T235959999Z",
        "sd_video_20260101T000000000Z",
    ]


def test_a_name_tells_its_prefix_and_moment():
    at = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert parse_stem(next(stems("synthetic_video", at))) == ("synthetic_video", at)


@pytest.mark.parametrize(
    "stem", ["", "holiday", "sd_video_20261399T000000000Z", "sd_video_20260102T030405678Zx"]
)
def test_other_names_are_not_ours(stem):
    assert parse_stem(stem) is None


def test_a_wanted_name_is_followed_by_numbered_ones():
    assert list(islice(wanted_stems("Lesson 1"), 3)) == ["Lesson 1", "Lesson 1_2", "Lesson 1_3"]


@pytest.mark.parametrize("stem", ["a", "Ünïcödé 3.5", "100% _-+,;()[]", "x" * 200, "日本語"])
def test_plain_names_will_do(stem):
    check_stem(stem)


@pytest.mark.parametrize(
    "stem",
    [
        *(
            "",
            " ",
            ".",
            "..",
            ".hidden",
            "end.",
            " a",
            "a ",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\x1b[2J",
        ),
        *(
            "a:b",
            "a*b",
            "a?b",
            'a"b',
            "a<b",
            "a|b",
            "con",
            "COM1",
            "nul.lesson",
            "x" * 201,
            "ü" * 101,
        ),
        *("a\u202eb", "\ud800"),
    ],
)
def test_names_that_lead_astray_are_refused(stem):
    with pytest.raises(InvalidRequest) as caught:
        check_stem(stem)
    assert caught.value.field == "name"
    assert caught.value.hint
