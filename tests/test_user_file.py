"""A user's own CSV or JSON lines: broken rows are named, the others kept."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from explorer.errors import TaskDataError
from explorer.tasks.task import Example
from explorer.tasks.text import NamesMade, is_name, name_of_file
from explorer.tasks.user_file import UserRows, read_user_file


def read(folder: Path, text: str | bytes, name: str = "mine.csv", **bounds: int) -> UserRows:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return read_user_file(folder / name, **bounds)


def told(rows: UserRows) -> list[str]:
    return [problem.sentence for problem in rows.problems]


def pairs(rows: UserRows) -> list[tuple[str, str]]:
    return [(one.prompt, one.target) for task in rows.tasks for one in task.test]


def test_broken_rows_are_named_as_a_spreadsheet_counts_them(tmp_path):
    rows = read(
        tmp_path,
        'prompt,target,refs\n"two\nlines",x,"[""y"", ""z""]"\n,no prompt\nno target\n\n'
        "=1+1,2\na,b,c,d\nlast,ok,one more\n",
    )
    (task,) = rows.tasks
    assert (task.name, task.family, task.train, task.validation) == ("mine", "", (), ())
    assert task.test == (
        Example("two\nlines", "x", ("y", "z")),
        Example("=1+1", "2"),
        Example("last", "ok", ("one more",)),
    )
    assert told(rows) == [
        "row 3 (line 4), prompt: is empty",
        "row 4 (line 5), target: is empty",
        "row 7 (line 8): has 4 cells, but the header 3",
    ]
    assert (rows.problems[0].row, rows.problems[0].line, rows.problems[0].field) == (3, 4, "prompt")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_a_spreadsheet_writes_is_read(tmp_path, delimiter, encoding, end):
    cells = [["prompt", "target"], ['say "é", or; or\t', "ü"], ["b", "c"]]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows(cells)
    rows = read(tmp_path, out.getvalue().encode(encoding))
    assert pairs(rows) == [('say "é", or; or', "ü"), ("b", "c")]
    assert not rows.problems


@pytest.mark.parametrize(
    "text",
    [
        " Prompt ,TARGET\np,t",
        "input,output\np,t",
        "Question, Answer\np, t",
        "question,prompt,answer\nno,p,t",
        "answer,output,target,input\nno,no,t,p",
        "\n\n,,\nprompt,target\np,t",
    ],
)
def test_columns_go_by_several_names(tmp_path, text):
    assert pairs(read(tmp_path, text)) == [("p", "t")]


def test_columns_that_are_not_read_are_told(tmp_path):
    assert read(tmp_path, "id,prompt,question,target\n1,a,b,c\n").ignored == ("id", "question")
    assert read(tmp_path, '{"id": 1, "prompt": "a", "target": "b"}', "a.jsonl").ignored == ("id",)


def test_tasks_families_and_splits(tmp_path):
    rows = read(
        tmp_path,
        "prompt,target,task,family,split\n"
        "a,b,My task,f,\n"
        "c,d,My task,,Train\n"
        "e,f,My task,g,test\n"
        "g,h,,,dev\n"
        "i,j,,,sometimes\n"
        f"k,l,{'n' * 81},,\n"
        "m,n,,a\u202eb,\n",
    )
    first, second = rows.tasks
    assert (first.name, first.family, first.test, first.train) == (
        "My_task",
        "f",
        (Example("a", "b"),),
        (Example("c", "d"),),
    )
    assert (second.name, second.validation) == ("mine", (Example("g", "h"),))
    assert told(rows) == [
        "row 4, family: is 'g', but rows of this task before have 'f'",
        "row 6, split: is 'sometimes', not test, train or validation",
        "row 7, task: is longer than 80 characters",
        "row 8, family: must be text on one line, of at most 80 characters",
    ]


def test_different_tasks_never_become_one(tmp_path):
    given = ["a b", "a_b_2", "a_b", "a b", "a/b", "\U0001f600", "\U0001f621", "हिन्दी", "हिन्दू", "a_b", "❤\ufe0f", ""]
    cells = "".join(f"p,{place},{name}\n" for place, name in enumerate(given))
    rows = read(tmp_path, "prompt,target,task\n" + cells, "a b.csv")
    assert [(task.name, [row.target for row in task.test]) for task in rows.tasks] == [
        ("a_b", ["0", "3", "11"]),  # a row without a task is of the file's own
        ("a_b_2", ["1"]),
        ("a_b_3", ["2", "9"]),
        ("a_b_4", ["4"]),
        ("task", ["5"]),
        ("task_2", ["6"]),
        ("हिन्दी", ["7"]),
        ("हिन्दू", ["8"]),
        ("task_3", ["10"]),
    ]


def test_long_names_stay_within_bounds_and_many_are_made_at_once():
    names = NamesMade()
    assert [names.of("n" * 79 + mark) for mark in "!?"] == ["n" * 79, "n" * 78 + "_2"]
    assert len({names.of(chr(0x1F300 + number)) for number in range(500)}) == 500


def test_the_name_that_a_file_gives_is_one_of_a_task_folder():
    assert is_name(name_of_file(Path("हिन्दी नाम.jsonl")))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_json_lines_end_as_on_any_system_and_nowhere_else(tmp_path, end):
    lines = ['{"prompt": "a\u2028b\x85c", "target": "1"}', "", "broken", '{"prompt": "b", "target": "2"}', ""]
    rows = read(tmp_path, end.join(lines), "m.jsonl")
    assert pairs(rows) == [("a\u2028b\x85c", "1"), ("b", "2")]
    assert told(rows) == ["row 3: is not a JSON object"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_no_answer(tmp_path, value):
    good = '{"prompt": "a", "target": "b"}\n'
    for broken, field in (
        (f'{{"prompt": "a", "target": {value}}}', "target"),
        (f'{{"prompt": "a", "target": "b", "refs": ["c", {value}]}}', "refs"),
    ):
        assert told(read(tmp_path, good + broken, "m.jsonl")) == [f"row 2, {field}: is NaN or infinite, not text"]


@pytest.mark.parametrize(
    ("refs", "found"),
    [
        ("[5]", ("5",)),
        ('[1.50, "x"]', ("1.50", "x")),
        ("[]", ()),
        ("[1.50, null]", "is empty"),
        ("[[1]]", "is not text"),
    ],
)
def test_references_are_the_same_in_both_formats(tmp_path, refs, found):
    quoted = refs.replace('"', '""')
    table = read(tmp_path, f'prompt,target,refs\na,b,"{quoted}"\nc,d,\n')
    lines = read(
        tmp_path, f'\n{{"prompt": "a", "target": "b", "refs": {refs}}}\n{{"prompt": "c", "target": "d"}}', "m.jsonl"
    )
    assert table.tasks[0].test == lines.tasks[0].test
    assert told(table) == told(lines) == ([f"row 2, refs: {found}"] if isinstance(found, str) else [])
    assert isinstance(found, str) or table.tasks[0].test[0].others == found


def test_json_lines(tmp_path):
    lines = [
        '{"input": "a", "output": 1.50, "refs": "one"}',
        "",
        '{"prompt": "", "target": "b"}',
        "not JSON",
        "[1]",
        '{"prompt": "\\ud800", "target": "b"}',
        '{"prompt": "x", "target": true}',
        '{"prompt": "x\\u0000", "target": "y"}',
        '{"prompt": "x", "target": "y", "refs": [""]}',
        json.dumps({"prompt": "x", "target": "y", "refs": ["z"] * 101}),
        "[" * 100_000,
        '{"question": "q", "prompt": "p", "target": 12345678901234567890123, "refs": ["r", 2]}',
    ]
    rows = read(tmp_path, "\n".join(lines), "mine.JSONL")
    assert rows.tasks[0].test == (
        Example("a", "1.50", ("one",)),
        Example("p", "12345678901234567890123", ("r", "2")),
    )
    assert told(rows) == [
        "row 3, prompt: is empty",
        "row 4: is not a JSON object",
        "row 5: is not a JSON object",
        "row 6, prompt: holds half a character (a lone surrogate)",
        "row 7, target: is not text",
        "row 8, prompt: holds a NUL character",
        "row 9, refs: is empty",
        "row 10, refs: are more than 100",
        "row 11: is not a JSON object",
    ]
    assert pairs(read(tmp_path, lines[0], "no-ending")) == [("a", "1.50")]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('"never closed,2', "has a quotation mark that is never closed"),
        ('"a" b,2', "has a quotation mark that does not end its field (inside quoted text it is written twice)"),
        ("a" * 140_000 + ",2", "has a field of more than 131,072 characters, or a quotation mark never closed"),
        ("a" * 110_000 + ",2", "longer than 100,000 characters"),
    ],
)
def test_one_bad_row_takes_no_other_with_it(tmp_path, broken, reason):
    rows = read(tmp_path, f"prompt,target\na,b\n{broken}\nc,d\ne,f\n")
    assert pairs(rows) == [("a", "b"), ("c", "d"), ("e", "f")]
    (problem,) = rows.problems
    assert problem.row == problem.line == 3
    assert problem.reason.endswith(reason)


def test_reading_ends_where_all_quotation_marks_are_broken(tmp_path):
    rows = read(tmp_path, "prompt,target\na,b\n" + '"x,y\n' * 5_000)
    assert pairs(rows) == [("a", "b")]
    assert len(rows.problems) == 51
    assert told(rows)[-1] == "row 53: and what follows was not read: too many broken quotation marks"


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "m.csv", "m.csv: expected a header with a column prompt or input or question, found an empty line."),
        ("a;b\n1;2", "m.csv", "m.csv: expected a header with a column prompt or input or question, found 'a', 'b'."),
        ("prompt,b\n1,2", "m.csv", "m.csv: expected a header with a column target or output or answer, found "),
        ("prompt,target,Prompt\n1,2,3", "m.csv", "m.csv: has two columns 'Prompt'. Rename one of them."),
        ("prompt,target\n\n ,\n", "m.csv", "m.csv: has no usable row; there is nothing below the header."),
        ("prompt,target\na,\n", "m.csv", "m.csv: has no usable row; row 2, target: is empty."),
        ("prompt,target\n" + "a,b\n" * 4, "m.csv", "m.csv: has more than 3 rows. Split it."),
        ('{"prompt": "a", "target": "b"}\n' * 4, "m.jsonl", "m.jsonl: has more than 3 rows. Split it."),
        ("x" * 1_001, "m.csv", "m.csv: is larger than 0 MB. Split it."),
        ("[]", "m.json", "m.json: is not a file of JSON lines. Write one JSON object a line."),
        (
            "prompt,target\ncafé,x".encode("cp1252"),
            "m.csv",
            "m.csv: is not UTF-8 text (line 2); it may be in an older encoding such as Windows-1252. "
            'Save it as "CSV UTF-8" (or as JSON lines) and try again.',
        ),
        (b"\xff\xfea", "m.csv", "m.csv: is not UTF-16 text (line 1); "),
        (
            "p\0rompt,target\na,b",
            "m.csv",
            "m.csv: expected a header with a column prompt or input or question, found 'p\\x00",
        ),
    ],
)
def test_a_file_without_usable_rows_is_one_sentence(tmp_path, text, name, message):
    with pytest.raises(TaskDataError) as caught:
        read(tmp_path, text, name, most_rows=3, most_bytes=1_000)
    assert caught.value.sentence.startswith(message)
    assert "\n" not in caught.value.sentence


def test_places_that_cannot_be_read(tmp_path):
    with pytest.raises(TaskDataError, match=r"none.csv: cannot be read \(No such file"):
        read_user_file(tmp_path / "none.csv")
    with pytest.raises(TaskDataError, match="cannot be read"):
        read_user_file(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")  # nobody ever writes to it
    with pytest.raises(TaskDataError, match=r"pipe.csv: is a pipe or a device, not a file"):
        read_user_file(tmp_path / "pipe.csv")
