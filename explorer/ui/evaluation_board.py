"""An evaluation as a table of plain numbers: methods by tasks, with means, the gap recovered, and the best of a column.

What is drawn, written as CSV or put into words is read off this. A record may be as long as its maker liked; only so
much of it as a page can hold is taken, and how much was left out is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from explorer.evaluation.record import (
    LOWER_IS_BETTER,
    ORACLE_TITLE,
    Cell,
    EvaluationRecord,
    Measure,
    MethodNote,
    TaskNote,
    summary,
)
from explorer.evaluation.table import ends, gap_recovered
from explorer.ui.evaluation_view import PARTS, Part

MOST_METHODS = 60
MOST_TASKS = 200


@dataclass(frozen=True)
class BoardRow:
    """One method.

    Attributes:
        method: which.
        means: over the tasks of each of `Board.parts`; None unless it was measured on every one of them.
        gap: share of the loss between base and oracle that it saves, over the in-distribution tasks.
        cells: for each of `Board.tasks`, None where it was not measured.
    """

    method: MethodNote
    means: tuple[Measure | None, ...]
    gap: float | None
    cells: tuple[Measure | None, ...]


@dataclass(frozen=True)
class Board:
    """The table.

    Attributes:
        measure: which measure it holds.
        parts: "in_distribution" and "held_out", as far as there are tasks of that kind.
        titles: what a reader calls these.
        tasks: of the chosen part, those of a family together.
        rows: the methods, in the record's order.
        hidden_methods, hidden_tasks: how many were left out.
    """

    measure: str
    parts: tuple[Part, ...]
    titles: tuple[str, ...]
    tasks: tuple[TaskNote, ...]
    rows: tuple[BoardRow, ...]
    hidden_methods: int = 0
    hidden_tasks: int = 0

    @property
    def base(self) -> BoardRow | None:
        """The base model's row."""
        return next((row for row in self.rows if is_base(row.method)), None)

    @property
    def libraries(self) -> tuple[str, ...]:
        """Titles of the libraries, in order."""
        return tuple(dict.fromkeys(row.method.library for row in self.rows if row.method.library))


def board_of(record: EvaluationRecord, measure: str, part: Part, *, own: bool = False) -> Board:
    """The table of one measure, its columns the tasks of `part`.

    Args:
        record: the evaluation.
        measure: which.
        part: which tasks.
        own: whether the tasks are a user's own, of which nobody knows whether the adapters have seen them.
    """
    tasks, cells, gaps = _tasks(record, part), cells_by_method(record), _gaps(record)
    parts = tuple(name for name, kind in _KINDS.items() if any(task.held_out == kind for task in record.tasks))
    methods = record.methods[:MOST_METHODS]
    rows = []
    for method in methods:
        found = cells.get(method.key, {})
        only = replace(record, cells=tuple(found.values()))
        means = tuple(summary(only, method.key, measure, held_out=_KINDS[name]) for name in parts)
        measured = (found[task.name].measures.get(measure) if task.name in found else None for task in tasks)
        rows.append(BoardRow(method, means, gaps.get(method.key), tuple(measured)[:MOST_TASKS]))
    titles = tuple("All tasks" if own else PARTS[name] for name in parts)
    hidden = len(record.methods) - len(methods), max(len(tasks) - MOST_TASKS, 0)
    return Board(measure, parts, titles, tuple(tasks[:MOST_TASKS]), tuple(rows), *hidden)


_KINDS: dict[Part, bool] = {"in_distribution": False, "held_out": True}


def _tasks(record: EvaluationRecord, part: Part) -> list[TaskNote]:
    """The tasks of a part, those of a family together."""
    wanted = [task for task in record.tasks if part == "all" or task.held_out == _KINDS[part]]
    families = {family: place for place, family in enumerate(dict.fromkeys(task.family for task in wanted))}
    return sorted(wanted, key=lambda task: families[task.family])


def cells_by_method(record: EvaluationRecord) -> dict[str, dict[str, Cell]]:
    """The cells by method's key and task's name."""
    found: dict[str, dict[str, Cell]] = defaultdict(dict)
    for cell in record.cells:
        found[cell.method].setdefault(cell.task, cell)
    return dict(found)


def is_base(method: MethodNote) -> bool:
    """Whether this is the base model alone."""
    return not method.library


def is_oracle(method: MethodNote) -> bool:
    """Whether this is told each task's own adapter."""
    return method.title == ORACLE_TITLE


def _gaps(record: EvaluationRecord) -> dict[str, float]:
    """How much of the way from base to oracle each method goes, by key; nothing unless the oracle is better."""
    found = ends(record)
    if found is None:
        return {}
    first, last = found
    cells = cells_by_method(record)
    both = [cell for method in found for cell in cells.get(method.key, {}).values()]
    gaps = {}
    for method in record.methods[:MOST_METHODS]:
        few = replace(record, cells=(*both, *cells.get(method.key, {}).values()))
        gaps[method.key] = gap_recovered(few, method.key, base=first.key, oracle=last.key)
    return {key: gap for key, gap in gaps.items() if gap is not None}


Best = tuple[int | None, int | None]


def best_rows(rows: Sequence[BoardRow], values: Sequence[Measure | None], measure: str) -> Best:
    """The row with the best mean, and the best of those that need nothing but the library; None where there is none."""
    sign = -1.0 if measure in LOWER_IS_BETTER else 1.0
    known = {place: sign * value.mean for place, value in enumerate(values) if value is not None}
    if len(known) < 2:
        return None, None
    free = {place: value for place, value in known.items() if not rows[place].method.uses}
    return max(known, key=known.__getitem__), max(free, key=free.__getitem__) if free else None


def tint(value: Measure | None, base: Measure | None, measure: str) -> float:
    """How much better than the base model, from -1 to 1: the share of its loss that is saved, or the difference."""
    if value is None or base is None:
        return 0.0
    if measure in LOWER_IS_BETTER:
        found = (base.mean - value.mean) / base.mean if base.mean > 0 else 0.0
    else:
        found = value.mean - base.mean
    return max(-1.0, min(1.0, found))
