"""Tags survive ffmpeg's text form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_local.errors import MediaFailed
from svd_local.media.metadata import dump, load_comment


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_what_goes_in_comes_out(comment: str) -> None:
    assert load_comment(dump(comment)) == comment


def test_the_comment_is_found_among_other_tags() -> None:
    text = ";FFMETADATA1\ntitle=comment\\=no\nCOMMENT=yes\nencoder=Lavf\n[STREAM]\ncomment=stream\n"
    assert load_comment(text.encode()) == "yes"


def test_a_streams_comment_is_not_the_files() -> None:
    assert load_comment(b";FFMETADATA1\nencoder=Lavf\n[STREAM]\ncomment=stream\n") == ""


def test_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(MediaFailed, match="NUL"):
        dump("a\0")
