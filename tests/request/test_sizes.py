from __future__ import annotations

import pytest

from svd_local.errors import InvalidRequest
from svd_local.request import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("4GiB", 4 * 2**30),
        ("4 gib", 4 * 2**30),
        ("4G", 4 * 2**30),
        ("4GB", 4 * 10**9),
        ("0.5GiB", 2**29),
        ("6000MiB", 6000 * 2**20),
        (1234, 1234),
    ],
)
def test_amounts_of_memory_in_words(text: str | int, amount: int) -> None:
    assert parse_bytes(text, field="vram_budget") == amount


@pytest.mark.parametrize(
    "text",
    [
        "banana",
        "",
        "GiB",
        "-4GiB",
        "4 GiB of it",
        "0",
        "0.0GiB",
        "4XiB",
        "99999999999999999GiB",
        "9" * 400,
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_bytes(text, field="vram_budget")
    assert caught.value.field == "vram_budget"
    assert "A full-size clip, 25 frames at 1024x576, takes about 1.5GiB" in caught.value.hint


def test_amounts_for_people() -> None:
    assert format_bytes(512) == "512 B"
    assert format_bytes(3 * 2**30 + 2**29) == "3.5 GiB"
    assert format_bytes(5 * 2**40) == "5.0 TiB"
