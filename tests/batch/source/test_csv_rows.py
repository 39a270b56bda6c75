from __future__ import annotations

import pytest
from batch.reading import jobs_of, problems_of, told

from svd_local.errors import InvalidRequest


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_write(opened, delimiter: str, end: str, encoding: str) -> None:
    rows = [
        ["Title", "Prompt", "Vram-Budget"],
        ["Größe", f'"a{delimiter} b"', "4GiB"],
        ["", "日本", ""],
    ]
    text = end.join(delimiter.join(row) for row in rows) + end
    jobs = jobs_of(opened(text.encode(encoding)))
    assert [job.row for job in jobs] == [2, 3]
    assert jobs[0].fields == {
        "title": "Größe",
        "prompt": f"a{delimiter} b",
        "vram_budget": "4GiB",
    }
    assert jobs[1].fields == {"prompt": "日本"}


def test_the_line_that_tells_excel_the_separator(opened) -> None:
    (job,) = jobs_of(opened("sep=;\ntitle;prompt\na,b;c\n"))
    assert (job.row, job.fields["title"]) == (3, "a,b")


def test_row_numbers_are_lines(opened) -> None:
    text = 'prompt,title\n\nfirst,"two\nlines"\n,\n  ,\t\nsecond,\n'
    jobs = jobs_of(opened(text))
    assert [(job.row, job.fields["prompt"]) for job in jobs] == [(3, "first"), (7, "second")]
    assert jobs[0].fields["title"] == "two\nlines"


def test_decimal_commas_where_semicolons_separate(opened) -> None:
    (job,) = jobs_of(opened("prompt;duration;guidance;noise\na, b;3,5;1,0:3,5;0,02\n"))
    assert job.fields == {
        "prompt": "a, b",
        "duration": "3.5",
        "guidance": "1.0:3.5",
        "noise": "0.02",
    }
    assert told(problems_of(opened('prompt,duration\na,"3,5"\n'))) == [(2, "duration")]


def test_rows_that_are_ragged(opened) -> None:
    text = "prompt,title\na\nb,c,d\ne,f,,,\ng,h\n"
    manifest = opened(text)
    assert told(problems_of(manifest)) == [(2, None), (3, None)]
    assert [job.row for row in manifest.rows() for job in row.jobs] == [4, 5]


def test_cells_under_no_name(opened) -> None:
    manifest = opened("prompt,,title,,\na,,b,,\nc,x,d,,\ne,,f,y,\n")
    assert told(problems_of(manifest)) == [(3, None), (4, None)]


def test_a_field_of_ten_megabytes_on_a_line(opened) -> None:
    manifest = opened(f"prompt,title\na,b\n{'x' * 10_000_000},c\nd,e\nf,-\n,only a title\n")
    problems = problems_of(manifest)
    assert told(problems) == [(3, None), (6, "prompt")]
    assert "more than 100,000 characters" in problems[0].reason
    assert [job.row for row in manifest.rows() for job in row.jobs] == [2, 4, 5]


@pytest.mark.parametrize("line", ["x" * 60, "x" * 1000])
def test_a_field_of_ten_megabytes_over_many_lines(opened, line: str) -> None:
    body = (line + "\n") * (10_000_000 // len(line))
    manifest = opened(f'prompt,title\na,b\n"{body}",c\nd,e\n')
    *_, last = manifest.rows()
    assert (last.number, last.fatal) == (3, True)
    assert "quotation mark" in last.problems[0].hint


def test_a_quote_that_is_never_closed(opened) -> None:
    *_, last = opened('prompt,title\na,b\n"c,d\ne,f\n').rows()
    assert (last.number, last.fatal, last.problems[0].row) == (3, True, 3)


def test_a_quote_that_goes_on(opened) -> None:
    manifest = opened('prompt,title\n"a" b,c\nd,e\n')
    assert told(problems_of(manifest)) == [(2, None)]
    assert [job.row for row in manifest.rows() for job in row.jobs] == [3]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        (";;;\n", "empty"),
        ("prompt,title,Prompt \n", "columns 1 and 3 are both named prompt"),
        ("Vram budget,vram-budget,prompt\n", "columns 1 and 2"),
        ("a lesson,a picture\nanother,one\n", "no column is a field"),
        ('"prompt,title\na,b\n', "first line"),
        ("x" * 2_000_000, "first line"),
    ],
)
def test_headers_that_are_none(opened, text: str, what: str) -> None:
    with pytest.raises(InvalidRequest, match=what) as caught:
        opened(text)
    assert caught.value.hint


def test_a_header_without_rows(opened) -> None:
    assert list(opened("prompt,title\n").rows()) == []


def test_an_unknown_column_is_named_once(opened) -> None:
    *rows, last = opened("promt,title,image\nx,a,\ny,b,\n", defaults={"prompt": "p"}).rows()
    assert [row.problems for row in rows] == [(), ()]
    assert (last.number, last.fatal, last.problems[0].field) == (1, True, "promt")
    assert "prompt" in last.problems[0].hint


def test_columns_for_templates_and_columns_for_oneself(opened) -> None:
    manifest = opened(
        "topic,lesson,#notes,title\nsaws,3,keep,Lesson: ${Topic}\n",
        defaults={"prompt": "p"},
        output_template="{lesson}/",
    )
    (job,) = jobs_of(manifest)
    assert job.fields == {"prompt": "p", "title": "Lesson: saws"}
    assert job.folder == "3"


def test_windows_letters_are_not_guessed(opened) -> None:
    text = "prompt,title\nplain,text\nfür,alle\n".encode("cp1252")
    with pytest.raises(InvalidRequest, match=r"line 3: not UTF-8 .*'für,alle'") as caught:
        opened(text)
    assert "--encoding" in caught.value.hint
    jobs = jobs_of(opened(text, encoding="windows-1252"))
    assert jobs[1].fields["prompt"] == "für"


def test_a_letter_torn_at_the_end(opened) -> None:
    with pytest.raises(InvalidRequest, match="line 2: not UTF-8"):
        opened("prompt\nfü".encode()[:-1])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("words", ["plain,text", "für,alle", "画像の説明,題名"])
def test_utf16_without_a_mark_is_known_by_its_zeros(opened, encoding: str, words: str) -> None:
    text = f"prompt,title\n{words}\n".encode(encoding)
    with pytest.raises(InvalidRequest, match=f"not UTF-8: .*{encoding.upper()}") as caught:
        opened(text)
    assert caught.value.hint.endswith(f"--encoding {encoding}.")
    assert [job.fields["title"] for job in jobs_of(opened(text, encoding=encoding))] == [
        words.partition(",")[2]
    ]


@pytest.mark.parametrize("before", ["", " ", "é", "x" * 5000])
def test_a_nul_is_told_by_its_line_and_is_no_utf16(opened, before: str) -> None:
    manifest = opened(f"title,prompt\n{before}A\x00B,p\nC,q\n")
    (problem,) = problems_of(manifest)
    assert (problem.row, problem.field) == (2, "title")
    assert problem.reason == f"a NUL as character {len(before.strip()) + 2}"
    assert "Remove it" in problem.hint
    assert [job.row for row in manifest.rows() for job in row.jobs] == [3]


@pytest.mark.parametrize("kept", ["", "B", "B,q"])
def test_a_file_that_ends_in_nuls_was_cut_short(opened, kept: str) -> None:
    text = "title,prompt\nA,p\n" + kept + "\x00" * 4096
    (problem,) = problems_of(opened(text))
    assert problem.row == 3
    assert problem.reason == ("4,096 NULs at its end" if kept else "nothing but 4,096 NULs")
    assert problem.hint.startswith("The file was cut short")


def test_a_nul_in_the_header_or_beside_letters_of_windows(opened) -> None:
    with pytest.raises(InvalidRequest, match="line 1: a column's name holds a NUL"):
        opened("ti\x00tle,prompt\nA,p\n")
    with pytest.raises(InvalidRequest, match="line 2: not UTF-8 ") as caught:
        opened("title,prompt\nA\x00é,p\n".encode("cp1252"))
    assert "UTF-16" not in caught.value.message


def test_an_encoding_that_was_named_wrong_is_not_answered_by_another_guess(opened) -> None:
    with pytest.raises(InvalidRequest, match="not UTF-16-BE") as caught:
        opened("title,prompt\nA\x00B,p\n", encoding="utf-16-be")
    assert "windows-1252" not in caught.value.hint
    assert "Leave --encoding out" in caught.value.hint


def test_utf32_is_not_taken_for_utf16(opened) -> None:
    (job,) = jobs_of(opened("prompt\nfür\n".encode("utf-32")))
    assert job.fields["prompt"] == "für"


def test_a_spreadsheets_own_file_by_another_name(opened) -> None:
    with pytest.raises(InvalidRequest, match="ZIP archive") as caught:
        opened(b"PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00\xc4")
    assert "CSV UTF-8" in caught.value.hint
    assert "--encoding" not in caught.value.hint


@pytest.mark.parametrize("name", ["klingon", "hex", "rot13", "undefined"])
def test_encodings_that_are_none(opened, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        opened("prompt\nx\n", encoding=name)
    assert caught.value.field == "encoding"
