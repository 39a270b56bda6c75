from __future__ import annotations

import errno
import tempfile

import pytest

from svd_local.errors import DiskFull, StorageFailed
from svd_local.storage import check_writable


def test_a_good_folder_passes_and_stays_as_it_was(tmp_path):
    check_writable(tmp_path, needed_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_to_be_made_passes_and_is_not_made_yet(tmp_path):
    check_writable(tmp_path / "a" / "b" / "c")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", [".", "videos/today"])
def test_a_file_in_the_way_is_named(tmp_path, below):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(StorageFailed, match=str(tmp_path / "file" / below)) as caught:
        check_writable(tmp_path / "file" / below, field="out")
    assert caught.value.hint
    assert caught.value.field == "out"
    assert (tmp_path / "file").read_text() == "kept"


def test_a_name_no_file_system_takes_is_refused(tmp_path):
    with pytest.raises(StorageFailed, match="name too long"):
        check_writable(tmp_path / ("x" * 300))
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_in_numbers(tmp_path):
    with pytest.raises(DiskFull, match="1,000,000,000,000,000,000 are needed") as caught:
        check_writable(tmp_path, needed_bytes=10**18, field="out")
    assert caught.value.field == "out"


@pytest.mark.parametrize(
    ("code", "expected", "hint"),
    [
        (errno.EACCES, StorageFailed, "may write"),
        (errno.EROFS, StorageFailed, "read-only"),
        (errno.ENOSPC, DiskFull, "Free some space"),
    ],
)
def test_what_the_system_refuses_is_told_with_a_way_out(
    tmp_path, monkeypatch, code, expected, hint
):
    def refuse(*_args, **_options):
        raise OSError(code, "refused")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(expected, match=str(tmp_path)) as caught:
        check_writable(tmp_path)
    assert type(caught.value) is expected
    assert hint in caught.value.hint
