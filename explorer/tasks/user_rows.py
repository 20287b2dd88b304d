"""A user's rows, one by one: what is usable becomes an example of a task, what is not is named with its reason.

Columns (case, spaces, "_" and "-" around and in a name do not matter):

- `prompt`, or `input`, or `question`: what the model is asked; needed.
- `target`, or `output`, or `answer`: the reference answer; needed.
- `refs`, or `references`: further accepted answers, a text or a JSON list of texts.
- `task` (the file's name), `family` (none), `split` (test, or train, or validation).
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.tasks.task import Example, Task
from explorer.tasks.text import MOST_NAME, NamesMade, half_character, is_family

MOST_TEXT = 100_000
MOST_REFS = 100
SYNONYMS = {
    "prompt": ("prompt", "input", "question"),
    "target": ("target", "output", "answer"),
    "refs": ("refs", "references"),
    "task": ("task",),
    "family": ("family",),
    "split": ("split",),
}
NEEDED = ("prompt", "target")
SPLIT_WORDS = {
    "": "test",
    "test": "test",
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


@dataclass(frozen=True)
class RowProblem:
    """Why a row was left out: its row as a spreadsheet counts (the header is row 1), its first line, and the field.

    In a file of JSON lines both numbers are the line's. `field` is empty where the whole row is concerned.
    """

    row: int
    line: int
    field: str
    reason: str

    @property
    def sentence(self) -> str:
        """The problem in words, on one line."""
        where = f"row {self.row}" if self.row == self.line else f"row {self.row} (line {self.line})"
        return f"{where}, {self.field}: {self.reason}" if self.field else f"{where}: {self.reason}"


class Unusable(Exception):
    """A row that has to be left out."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(f"{field}: {reason}")


def meaning(column: str) -> tuple[str, int]:
    """The field that a column's name means, and how late that name stands among its synonyms; ("", 0) for none."""
    name = "".join(c for c in column.casefold() if c not in " _-\t\ufeff")
    return next(((field, names.index(name)) for field, names in SYNONYMS.items() if name in names), ("", 0))


class RowCollector:
    """Takes rows as they are read, and gives the tasks they make; rows without a `task` are of `default`."""

    def __init__(self, default: str) -> None:
        self._default = default
        self._names = NamesMade()
        self._rows: dict[str, dict[str, list[Example]]] = defaultdict(lambda: defaultdict(list))
        self._families: dict[str, str] = {}
        self.problems: list[RowProblem] = []

    def add(self, row: int, line: int, cells: Mapping[str, object]) -> None:
        """Take one row's fields, or note why not."""
        try:
            self._take(row, cells)
        except Unusable as problem:
            self.note(row, line, problem.field, problem.reason)

    def note(self, row: int, line: int, field: str, reason: str) -> None:
        """Note a row that cannot even be read."""
        self.problems.append(RowProblem(row, line, field, reason))

    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order in which they first came."""
        return tuple(
            Task(
                name,
                self._families[name],
                train=tuple(parts["train"]),
                test=tuple(parts["test"]),
                validation=tuple(parts["validation"]),
            )
            for name, parts in self._rows.items()
        )

    def _take(self, row: int, cells: Mapping[str, object]) -> None:
        example = Example(_text(cells, "prompt"), _text(cells, "target"), _refs(cells.get("refs")), row)
        split = _split(cells.get("split"))
        given = _task(cells.get("task")) or self._default
        family = _family(cells.get("family"))
        name = self._names.of(given)
        known = self._families.get(name, "")
        if family and known and family != known:
            raise Unusable("family", f"is {family!r}, but rows of this task before have {known!r}")
        self._families[name] = known or family
        self._rows[name][split].append(example)


def as_written(text: str) -> Any:
    """JSON whose numbers stay text as they were written: 1.50 is an answer, 1.5 another one; NaN is none (a float).

    Raises:
        ValueError: it is not JSON; or a RecursionError, where it is too deep.
    """
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=float)


def _text(cells: Mapping[str, object], field: str) -> str:
    """A needed text, without blanks around it."""
    return sound(cells.get(field), field)


def sound(given: object, field: str) -> str:
    """The text itself, with line ends of one kind.

    Raises:
        Unusable: it is none, is empty or too long, or holds what no tokenizer should be given.
    """
    if isinstance(given, float):  # what Python's json writes for a missing value; others stay text
        raise Unusable(field, "is NaN or infinite, not text")
    if given is not None and not isinstance(given, str):
        raise Unusable(field, "is not text")
    text = (given or "").replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        raise Unusable(field, "is empty")
    if len(text) > MOST_TEXT:
        raise Unusable(field, f"is longer than {MOST_TEXT:,} characters")
    if "\0" in text:
        raise Unusable(field, "holds a NUL character")
    if half_character(text):
        raise Unusable(field, "holds half a character (a lone surrogate)")
    return text


def _optional(given: object, field: str) -> str:
    """A text that may be missing."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return ""
    return sound(given, field)


def _refs(given: object) -> tuple[str, ...]:
    if isinstance(given, str) and given.lstrip().startswith("["):
        with contextlib.suppress(ValueError, RecursionError):  # or a text that happens to begin so
            given = as_written(given)
    if not isinstance(given, list):
        text = _optional(given, "refs")
        return (text,) if text else ()
    if len(given) > MOST_REFS:
        raise Unusable("refs", f"are more than {MOST_REFS}")
    return tuple(sound(one, "refs") for one in given)


def _split(given: object) -> str:
    word = _optional(given, "split")
    split = SPLIT_WORDS.get(word.casefold())
    if split is None:
        raise Unusable("split", f"is {word[:40]!r}, not test, train or validation")
    return split


def _task(given: object) -> str:
    """What the row calls its task, if anything."""
    text = _optional(given, "task")
    if len(text) > MOST_NAME:
        raise Unusable("task", f"is longer than {MOST_NAME} characters")
    return text


def _family(given: object) -> str:
    text = _optional(given, "family")
    if not is_family(text):
        raise Unusable("family", f"must be text on one line, of at most {MOST_NAME} characters")
    return text


def missing(columns: Sequence[str]) -> str:
    """The first needed field that no column is; "" if all are there."""
    found = {meaning(column)[0] for column in columns}
    return next((field for field in NEEDED if field not in found), "")
