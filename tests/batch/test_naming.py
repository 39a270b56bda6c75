from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_local.batch.naming import (
    MAX_BYTES,
    OutputTemplate,
    Unnameable,
    compared,
    cut,
    numbered,
    safe_folder,
    safe_name,
    safe_text,
)
from svd_local.errors import InvalidRequest

TRICKY = st.one_of(
    st.text(),
    st.text(alphabet="./\\~:*?<>|\"' \t\n\x00CONPRNaux1\u202e\u200d\u0301éﬀ\ud800😀"),
    st.sampled_from(
        [
            *(
                "..",
                ".",
                "...",
                "/etc/passwd",
                "C:\\x",
                "\\\\host\\share",
                "NUL",
                "nul.txt",
                "COM¹",
            ),
            *("aux ", "a" * 500, "é" * 300, "👩\u200d👩\u200d👧" * 60, "a\u0301" * 200),
            *("．．／", "‥", "-rf", "$HOME"),
        ]
    ),
)


def _is_safe(name: str) -> None:
    """One component, on every file system, that can be read back as it was written."""
    assert name
    assert name not in (".", "..")
    assert not set(name) & set('/\\<>:"|?*\x00')
    assert name[0] != "."
    assert name[-1] not in ". "
    assert len(name.encode("utf-8")) <= MAX_BYTES + 1
    assert unicodedata.is_normalized("NFC", name)
    assert name.isprintable()
    assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", name)
    assert not PureWindowsPath(name).is_absolute()
    assert os.path.normpath(f"/out/{name}") == f"/out/{name}"


@given(TRICKY, TRICKY)
def test_whatever_the_values_the_file_is_below_the_folder(one: str, two: str) -> None:
    template = OutputTemplate.parse("{one}/x{two}/{index:03d}_{one}{two}.mp4")
    values = {"one": one, "two": two, "index": 7}
    if not (safe_text(one) and safe_text(two)):
        with pytest.raises(Unnameable):
            template.apply(values)
        return
    folder, name = template.apply(values)
    assert folder is not None
    assert name is not None
    parts = folder.split("/")
    assert len(parts) == 2
    for part in (*parts, name):
        _is_safe(part)
    assert name.startswith("007_")


@given(TRICKY)
def test_names_alone(value: str) -> None:
    _is_safe(safe_name(safe_text(value)))
    assert safe_text(safe_text(value)) == safe_text(value)


@given(TRICKY, st.integers(2, 10**6))
def test_numbered_names(value: str, number: int) -> None:
    name = numbered(safe_name(safe_text(value)), number)
    _is_safe(name)
    assert name.endswith(f"_{number}")


@given(TRICKY)
def test_folders_of_rows(value: str) -> None:
    try:
        folder = safe_folder(value)
    except ValueError:
        return
    for part in folder.split("/"):
        _is_safe(part)


def test_they_can_be_made(tmp_path: Path) -> None:
    template = OutputTemplate.parse("{a}/{a}")
    for value in ("x" * 500, "é" * 300, "a/b\\c:d", "👩‍👩‍👧" * 60, "نمی‌خواهم"):
        folder, name = template.apply({"a": value})
        path = tmp_path / (folder or "") / f"{name}.enhanced.json"
        path.parent.mkdir()
        path.touch()
        assert path in path.parent.iterdir()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("Lesson 3: Handling price", "Lesson 3_ Handling price"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("  two \n lines\t", "two lines"),
        ("CON.mp4", "_CON.mp4"),
        ("v1.2.", "v1.2"),
        ("e\u0301", "é"),
        ("\u202egnp.exe", "gnp.exe"),
        ("Ⅷ ﬁne", "Ⅷ ﬁne"),
    ],
)
def test_what_becomes_of_a_value(value: str, name: str) -> None:
    assert safe_name(safe_text(value)) == name


def test_cutting_tears_nothing() -> None:
    assert cut("ééé", 5) == "éé"
    assert cut("ax\u0323\u0301", 3) == "a"
    assert cut("😀😀", 7) == "😀"


@pytest.mark.parametrize(
    ("template", "folder", "name"),
    [
        ("{Lesson}/{index:03d}_{title:.5}", "First aid", "007_An ad"),
        ("{lesson}/", "First aid", None),
        ("all/{{x}}/{part:2}{part:02d}", "all/{x}", " 303".strip()),
        ("{title}.mp4", None, "An adhesive bandage"),
        ("{lesson}.mp4/x", "First aid.mp4_", "x"),
        ("{out-come}", None, "ok"),
    ],
)
def test_templates(template: str, folder: str | None, name: str | None) -> None:
    values = {
        "lesson": "First aid",
        "title": "An adhesive bandage",
        "part": "3",
        "index": 7,
        "out_come": "ok",
    }
    assert OutputTemplate.parse(template).apply(values) == (folder, name)


@pytest.mark.parametrize(
    "template",
    [
        *(
            "",
            "/",
            "/etc/{a}",
            "../{a}",
            "a/../{b}",
            "a//b",
            "./{a}",
            ".hidden/{a}",
            "~/{a}",
            "C:/{a}",
        ),
        *("{a}\\{b}", "a\x00", "a\n", "{a", "a}", "{}", "{0}", "{a.__class__}", "{a[0]}", "{a!r}"),
        *("{a:>10}", "{a:{b}}", "{a:1000d}", "{a:x}", "{a b.c}", "a?", "x/" * 8 + "y"),
    ],
)
def test_templates_that_are_none(template: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        OutputTemplate.parse(template)
    assert caught.value.field == "output_template"


@pytest.mark.parametrize(
    ("template", "column"),
    [("{seed}", "seed"), ("{a:03d}", "a"), ("{blank}", "blank"), ("{b}", "b")],
)
def test_rows_that_give_no_name(template: str, column: str) -> None:
    with pytest.raises(Unnameable) as caught:
        OutputTemplate.parse(template).apply({"seed": None, "a": "one", "blank": " \x00 "})
    assert caught.value.column == column


@pytest.mark.parametrize(
    "folder", ["", "/a", "~a", "C:a", "\\\\h\\s", "a/../b", "..", "a//b", ".", "x/" * 9]
)
def test_folders_that_lead_elsewhere(folder: str) -> None:
    with pytest.raises(ValueError):
        safe_folder(folder)


def test_names_that_some_disk_takes_for_the_same() -> None:
    assert compared("A", "Straße") == compared("a", "STRASSE")
    assert compared(None, "é") == compared(None, "E\u0301")
