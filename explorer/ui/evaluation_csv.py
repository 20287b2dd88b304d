"""The Evaluate tab's table as CSV, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io

from explorer.evaluation.record import Measure
from explorer.ui.evaluation_board import Board

#: A cell that begins with one of these is a formula to some spreadsheet.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def table_csv(board: Board) -> str:
    """A line for each method: mean, standard error and number of rows of each column of the table."""
    heads = [f"mean, {title.lower()}" for title in board.titles]
    heads += [task.name for task in board.tasks]
    columns = [f"{head}{ending}" for head in heads for ending in ("", " (standard error)", " (rows)")]
    lines = [[harmless(head) for head in ("method", "library", "needs", "gap recovered", *columns)]]
    for row in board.rows:
        names = [harmless(name) for name in (row.method.title, row.method.library, row.method.uses)]
        numbers = [number for value in (*row.means, *row.cells) for number in _numbers(value)]
        lines.append([*names, "" if row.gap is None else f"{row.gap:.6g}", *numbers])
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(lines)
    return written.getvalue()


def harmless(cell: str) -> str:
    """A text that no spreadsheet takes for a formula: one that looks like it gets an apostrophe in front."""
    return f"'{cell}" if cell.lstrip(" ").startswith(FORMULA) else cell


def _numbers(value: Measure | None) -> tuple[str, str, str]:
    if value is None:
        return "", "", ""
    return f"{value.mean:.6g}", "" if value.error is None else f"{value.error:.6g}", str(value.n)
