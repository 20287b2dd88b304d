"""Task files: one JSON object a line with `prompt`, `target` and optionally `task`, `family`, `split` and `refs`.

A folder of such files is what training and evaluation read. Rows are grouped by their `task` (by default the file's
name); rows whose `split` is "test" or "validation" never train anything; `refs` lists further accepted answers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import TaskDataError
from explorer.tasks.reading import lines_in, read_bytes
from explorer.tasks.task import SPLITS, Example, Task
from explorer.tasks.text import NAME_RULE, half_character, is_family, is_name

MOST_OTHERS = 100
MOST_BYTES = 1_000_000_000  # of one file


def read_tasks(folder: Path, names: tuple[str, ...] = ()) -> tuple[Task, ...]:
    """Read every `*.jsonl` in `folder`; keep the tasks called `names`, in that order (all, sorted, if empty).

    `folder` may also be a single .jsonl file.

    Raises:
        TaskDataError: no such folder, no files, a row that is not usable (file and line are named), or an unknown name.
    """
    files = _files(folder)
    rows: dict[str, dict[str, list[Example]]] = defaultdict(lambda: {split: [] for split in SPLITS})
    families: dict[str, str] = {}
    for path in files:
        for row in _rows(path):
            rows[row.task][row.split].append(row.example)
            known = families.setdefault(row.task, row.family)
            if known != row.family:
                raise TaskDataError(row.where, f"task {row.task!r} has two families, {known!r} and {row.family!r}")
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise TaskDataError(str(folder), f"has no task {unknown[0]!r}", fix=f"It has: {', '.join(sorted(rows))}.")
    return tuple(
        Task(
            name,
            families[name],
            train=tuple(rows[name]["train"]),
            test=tuple(rows[name]["test"]),
            validation=tuple(rows[name]["validation"]),
        )
        for name in (dict.fromkeys(names) or sorted(rows))
    )


def _files(place: Path) -> list[Path]:
    if place.is_file() and place.suffix == ".jsonl":
        return [place]
    if not place.is_dir():
        raise TaskDataError(str(place), "is not a folder", fix="Name a folder of .jsonl task files.")
    files = sorted(place.glob("*.jsonl"))
    if not files:
        raise TaskDataError(str(place), "holds no .jsonl file", fix="Each task is a file of JSON lines.")
    return files


@dataclass(frozen=True)
class _Row:
    """One line of a task file; `where` is its file and line."""

    where: str
    task: str
    family: str
    split: str
    example: Example


def _rows(path: Path) -> Iterator[_Row]:
    """Read each line that is not blank; there must be one, or a task would be missing unseen."""
    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskDataError(path.name, "cannot be read as UTF-8 text") from error
    if not text or text.isspace():
        raise TaskDataError(path.name, "has no rows", fix="Fill the file or remove it.")
    for number, line in enumerate(lines_in(text), start=1):
        if line.strip():
            yield _row(path, number, line)


def _row(path: Path, number: int, line: str) -> _Row:
    where, file_name = f"{path.name}, line {number}", path.stem
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TaskDataError(where, "is not JSON", fix="Each line is one JSON object.") from error
    if not isinstance(row, dict):
        raise TaskDataError(where, expected="a JSON object", found=type(row).__name__)
    prompt, target = _text(where, row, "prompt"), _text(where, row, "target")
    if "task" not in row and not is_name(file_name):
        problem = "has no field 'task', and the file's name is not usable as one"
        raise TaskDataError(where, problem, fix=f"Add the field or rename the file. {NAME_RULE}")
    task, family, split = row.get("task", file_name), row.get("family", ""), row.get("split", "train")
    if not isinstance(task, str) or not is_name(task):
        raise TaskDataError(where, "field 'task' is not a usable name", fix=NAME_RULE)
    if not isinstance(family, str) or not is_family(family):
        raise TaskDataError(where, "field 'family' must be text on one line, of at most 80 characters")
    if split not in SPLITS:
        raise TaskDataError(where, f"field 'split' must be one of {', '.join(SPLITS)}")
    return _Row(where, task, family, split, Example(prompt, target, _others(where, row), number))


def _others(where: str, row: dict[str, Any]) -> tuple[str, ...]:
    """The further accepted answers of a row."""
    given = row.get("refs", [])
    if not isinstance(given, list) or len(given) > MOST_OTHERS:
        raise TaskDataError(where, f"field 'refs' must be a list of at most {MOST_OTHERS} texts")
    return tuple(_text(where, {"refs": text}, "refs") for text in given)


def _text(where: str, row: dict[str, Any], field: str) -> str:
    text = row.get(field)
    if not isinstance(text, str) or not text.strip():
        raise TaskDataError(where, f"field {field!r} must be text that is not empty")
    if half_character(text):
        raise TaskDataError(where, f"field {field!r} holds half a character (a lone surrogate)")
    return text
