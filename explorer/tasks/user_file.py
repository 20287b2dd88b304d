"""A user's own file of rows, CSV or JSON lines, read leniently: broken rows are named, the others kept.

Task folders made by this program are read strictly (:func:`~explorer.tasks.folder.read_tasks`); this is for what comes
out of a spreadsheet or a script. Rows test unless their `split` says otherwise. A cell is text whatever it looks like:
numbers stay as they were written, and nothing is ever computed.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from explorer.errors import TaskDataError
from explorer.tasks.reading import lines_in, read_bytes
from explorer.tasks.task import Task
from explorer.tasks.user_rows import SYNONYMS, RowCollector, RowProblem, as_written, meaning, missing

DELIMITERS = (",", ";", "\t")
NAMES_SHOWN = 12
MOST_BROKEN_QUOTES = 50
SAVE_AS = 'Save it as "CSV UTF-8" (or as JSON lines) and try again.'


@dataclass(frozen=True)
class UserRows:
    """What was usable, by task, what was not, by row, and the names of columns that are not read."""

    tasks: tuple[Task, ...]
    problems: tuple[RowProblem, ...]
    ignored: tuple[str, ...] = ()


def read_user_file(path: Path, *, most_rows: int = 10_000, most_bytes: int = 20_000_000) -> UserRows:
    """Read a CSV file (separated by comma, semicolon or tab) or a file of JSON objects, one a line.

    Args:
        path: JSON lines if it ends in .jsonl or .ndjson or begins with "{", otherwise CSV with a header.
        most_rows: a file with more is refused, not cut.
        most_bytes: likewise.

    Raises:
        TaskDataError: it cannot be read as either, is too large, lacks a needed column, or has no usable row.
    """
    text = _decoded(path, most_bytes)
    rows = RowCollector(path.stem)
    if path.suffix.lower() in (".jsonl", ".ndjson") or text.lstrip()[:1] == "{":
        ignored = _read_json_lines(path.name, text, rows, most_rows)
    elif path.suffix.lower() == ".json":
        raise TaskDataError(path.name, "is not a file of JSON lines", fix="Write one JSON object a line.")
    else:
        ignored = _read_csv(path.name, text, rows, most_rows)
    problems = tuple(sorted(rows.problems, key=lambda problem: problem.row))
    tasks = rows.tasks()
    if not tasks:
        first = problems[0].sentence if problems else "there is nothing below the header"
        raise TaskDataError(path.name, f"has no usable row; {first}")
    return UserRows(tasks, problems, ignored)


def _decoded(path: Path, most_bytes: int) -> str:
    """The file's text: UTF-8 with or without a mark, or what a spreadsheet calls Unicode text (UTF-16 with a mark)."""
    raw = read_bytes(path, most_bytes)
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        kind = "UTF-16" if wide else "UTF-8"
        problem = f"is not {kind} text (line {line}); it may be in an older encoding such as Windows-1252"
        raise TaskDataError(path.name, problem, fix=SAVE_AS) from error


def _too_many(file: str, most_rows: int) -> NoReturn:
    raise TaskDataError(file, f"has more than {most_rows:,} rows", fix="Split it.")


# JSON lines


def _read_json_lines(file: str, text: str, rows: RowCollector, most_rows: int) -> tuple[str, ...]:
    taken = 0
    ignored: dict[str, None] = {}
    for number, line in enumerate(lines_in(text), start=1):
        if not line.strip():
            continue
        taken += 1
        if taken > most_rows:
            _too_many(file, most_rows)
        try:
            found = as_written(line)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            rows.add(number, number, _by_field(found))
            ignored.update(dict.fromkeys(key for key in found if not meaning(key)[0]))
        else:
            rows.note(number, number, "", "is not a JSON object")
    return tuple(ignored)


def _by_field(found: dict[str, object]) -> dict[str, object]:
    """Values by field; where two names mean one field, the one that stands first among the synonyms."""
    latest_first = sorted(found, key=lambda name: meaning(name)[1], reverse=True)
    return {meaning(name)[0]: found[name] for name in latest_first}


# CSV


@dataclass(frozen=True)
class _Record:
    """A record, or why there is none; its number, from 1, and the line it begins on."""

    row: int
    line: int
    cells: tuple[str, ...] = ()
    broken: str = ""


def _read_csv(file: str, text: str, rows: RowCollector, most_rows: int) -> tuple[str, ...]:
    lines = list(io.StringIO(text, newline=""))
    delimiter, header = _header(file, lines)
    places = _places(file, header)
    records = itertools.islice(_filled(lines, delimiter), 1, None)
    for taken, record in enumerate(records, start=1):
        if taken > most_rows:
            _too_many(file, most_rows)
        _add(rows, record, places, len(header))
    read = set(places.values())
    return tuple(name.strip() for place, name in enumerate(header) if name.strip() and place not in read)


def _add(rows: RowCollector, record: _Record, places: dict[str, int], width: int) -> None:
    if record.broken:
        rows.note(record.row, record.line, "", record.broken)
    elif any(cell.strip() for cell in record.cells[width:]):
        rows.note(record.row, record.line, "", f"has {len(record.cells)} cells, but the header {width}")
    else:
        cells = {field: record.cells[place] for field, place in places.items() if place < len(record.cells)}
        rows.add(record.row, record.line, cells)


def _header(file: str, lines: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The delimiter that gives a header with the needed columns, and that header.

    Raises:
        TaskDataError: none does; what the likeliest one gives is told.
    """
    found = {delimiter: next(_filled(lines, delimiter), _Record(1, 1)).cells for delimiter in DELIMITERS}
    for delimiter, cells in found.items():
        if not missing(cells):
            return delimiter, cells
    cells = max(found.values(), key=len)
    names = ", ".join(repr(cell.strip()[:40]) for cell in cells[:NAMES_SHOWN]) or "an empty line"
    field = missing(cells)
    expected = f"a header with a column {' or '.join(SYNONYMS[field])}"
    raise TaskDataError(file, expected=expected, found=names, fix="The first row names the columns: prompt, target.")


def _places(file: str, header: Sequence[str]) -> dict[str, int]:
    """The column of each field.

    Raises:
        TaskDataError: a column is there twice.
    """
    places: dict[tuple[str, int], int] = {}
    for place, column in enumerate(header):
        if places.setdefault(meaning(column), place) != place and meaning(column)[0]:
            raise TaskDataError(file, f"has two columns {column.strip()[:40]!r}", fix="Rename one of them.")
    return {field: places[field, rank] for field, rank in sorted(places, reverse=True) if field}


def _filled(lines: Sequence[str], delimiter: str) -> Iterator[_Record]:
    """Records without blank lines, and without the empty rows that a spreadsheet leaves below its table."""
    return (one for one in _records(lines, delimiter) if one.broken or any(cell.strip() for cell in one.cells))


def _records(lines: Sequence[str], delimiter: str) -> Iterator[_Record]:
    """Records one by one; after a broken one reading goes on in the line after its first.

    An opening quotation mark without a closing one would make one field of all that follows.
    """
    start, row, broken = 0, 0, 0
    while start < len(lines):
        reader = csv.reader(lines[start:], delimiter=delimiter, skipinitialspace=True, strict=True)
        line = start
        try:
            for cells in reader:
                row += 1
                yield _Record(row, line + 1, tuple(cells))
                line = start + reader.line_num
            return
        except csv.Error as error:
            row, broken = row + 1, broken + 1
            yield _Record(row, line + 1, broken=_reason(error))
            start = line + 1
        if broken == MOST_BROKEN_QUOTES:
            yield _Record(row + 1, start + 1, broken="and what follows was not read: too many broken quotation marks")
            return


def _reason(error: csv.Error) -> str:
    said = str(error)
    if "unexpected end of data" in said:
        return "has a quotation mark that is never closed"
    if "field larger" in said:
        return f"has a field of more than {csv.field_size_limit():,} characters, or a quotation mark never closed"
    return "has a quotation mark that does not end its field (inside quoted text it is written twice)"
