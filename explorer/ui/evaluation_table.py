"""The Evaluate tab's table as escaped HTML: methods by tasks, tinted about the base model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from explorer.evaluation.record import TITLES, Measure, TaskNote
from explorer.ui.evaluation_board import Board, BoardRow, best_rows, is_base, tint
from explorer.ui.html import count_text, shortened, text

BEST, BEST_FREE = "★", "☆"
#: Blue for better than the base model, orange for worse; so faint at most that text stays readable on both themes.
BETTER, WORSE = "63,144,218", "255,150,30"
STRONGEST = 0.42
GAP = "(base - method) / (base - oracle), in mean in-distribution loss"
_LONGEST_TITLE, _LONGEST_LIBRARY = 60, 40


def table_html(board: Board) -> str:
    """The table in a box that scrolls by itself."""
    columns = [tuple(row.means[place] for row in board.rows) for place in range(len(board.parts))]
    columns += [tuple(row.cells[place] for row in board.rows) for place in range(len(board.tasks))]
    best = [best_rows(board.rows, column, board.measure) for column in columns]
    base = board.base
    body = "".join(_row(board, row, place, best, base) for place, row in enumerate(board.rows))
    return (
        '<div class="lx-scores" tabindex="0" role="region" aria-label="Results by method and task"><table>'
        f"<thead>{_head(board)}</thead><tbody>{body}</tbody></table></div>{_key(board)}"
    )


def _head(board: Board) -> str:
    """Families above the names of their tasks."""
    count = len(board.parts) + bool(_has_gap(board))
    families = "".join(
        f'<th scope="colgroup" colspan="{len(tasks)}" class="lx-edge">{text(family)}</th>'
        for family, tasks in _families(board.tasks)
    )
    means = f'<th scope="colgroup" colspan="{count}">Mean of tasks</th>' if count else ""
    names = "".join(f'<th scope="col">{text(title)}</th>' for title in board.titles)
    if _has_gap(board):
        names += f'<th scope="col" title="{GAP}">Gap recovered</th>'
    first = _first_of_families(board.tasks)
    for place, task in enumerate(board.tasks):
        said = f"{task.name}: {count_text(task.rows, 'row')}" + (", held out" if task.held_out else "")
        edge = ' class="lx-edge"' if place in first else ""
        names += f'<th scope="col"{edge} title="{text(said)}">{_breakable(task.name)}</th>'
    return f'<tr><th rowspan="2" scope="col">Method</th>{means}{families}</tr><tr>{names}</tr>'


def _row(
    board: Board, row: BoardRow, place: int, best: Sequence[tuple[int | None, int | None]], base: BoardRow | None
) -> str:
    against = [*base.means, *base.cells] if base is not None else [None] * len(best)
    cells = []
    first = {len(board.parts) + column for column in _first_of_families(board.tasks)}
    for column, value in enumerate([*row.means, *row.cells]):
        sign = BEST if best[column][0] == place else BEST_FREE if best[column][1] == place else ""
        strength = 0.0 if is_base(row.method) else tint(value, against[column], board.measure)
        where = f" on {board.tasks[column - len(board.parts)].name}" if column >= len(board.parts) else ""
        cells.append(_cell(board, value, f"{row.method.title}{where}", sign, strength, edge=column in first))
        if column == len(board.parts) - 1 and _has_gap(board):
            cells.append(f"<td>{'' if row.gap is None else f'{row.gap:.0%}'}</td>")
    return f"<tr>{_method(row)}{''.join(cells)}</tr>"


def _method(row: BoardRow) -> str:
    method = row.method
    notes = shortened(method.library, _LONGEST_LIBRARY)
    if method.uses:
        notes += f"{' · ' if notes else ''}needs {shortened(method.uses, _LONGEST_TITLE)}"
    small = f"<small>{text(notes)}</small>" if notes else ""
    full = f"{method.title}. {method.library}" + (f". Needs {method.uses}" if method.uses else "")
    return f'<th scope="row" title="{text(full)}">{text(shortened(method.title, _LONGEST_TITLE))}{small}</th>'


def _cell(board: Board, value: Measure | None, name: str, sign: str, strength: float, *, edge: bool) -> str:
    known = ' class="lx-edge"' if edge else ""
    if value is None:
        return f'<td{known} title="{text(name)}: not measured, or not on every task">–</td>'
    error = "" if value.error is None else f"<small>±{number_text(value.error, board.measure)}</small>"
    told = f"{name}: {measure_text(value, board.measure)}"
    colour = BETTER if strength > 0 else WORSE
    style = f' style="background-color:rgba({colour},{abs(strength) * STRONGEST:.3f})"' if strength else ""
    shown = number_text(value.mean, board.measure)
    best = f'<b>{shown}<span aria-label="best">{sign}</span></b>' if sign else shown
    return f'<td{known}{style} title="{text(told)}">{best}{error}</td>'


def number_text(value: float, measure: str) -> str:
    """A loss with two digits after the point, the other measures in percent."""
    if measure == "loss":
        return f"{value:.2f}" if abs(value) < 1e4 else f"{value:.1e}"
    return f"{100 * value:.1f}" if abs(value) < 1e4 else f"{100 * value:.1e}"


def measure_text(value: Measure, measure: str) -> str:
    """Mean, standard error and number of rows in words."""
    unit = " nats per token" if measure == "loss" else " %"
    error = "" if value.error is None else f" ± {number_text(value.error, measure)}"
    return f"{number_text(value.mean, measure)}{error}{unit}, n = {value.n:,}"


def _key(board: Board) -> str:
    """What colours and signs say, and what was left out."""
    unit = "" if board.measure == "loss" else ", in percent"
    words = [f"{TITLES[board.measure]}{unit}; ± one standard error, and differences within two of them are noise."]
    if board.base is not None:
        words.append("Blue: better than the base model; orange: worse.")
    words.append(
        f"{BEST} best mean of a column"
        + (f", {BEST_FREE} best of those that need nothing but the library." if _has_needs(board) else ".")
    )
    if _has_gap(board):
        words.append("Gap recovered: share of the in-distribution loss between base model and oracle that is saved.")
    if board.hidden_methods or board.hidden_tasks:
        left = [count_text(board.hidden_methods, "method")] * bool(board.hidden_methods)
        left += [count_text(board.hidden_tasks, "task")] * bool(board.hidden_tasks)
        words.append(f"Too large for a page: {' and '.join(left)} more in the JSON.")
    return f'<p class="lx-quiet">{text(" ".join(words))}</p>'


def _has_needs(board: Board) -> bool:
    return any(row.method.uses for row in board.rows)


def _has_gap(board: Board) -> bool:
    return any(row.gap is not None for row in board.rows)


def _families(tasks: Sequence[TaskNote]) -> list[tuple[str, list[TaskNote]]]:
    return [(family, list(found)) for family, found in groupby(tasks, key=lambda task: task.family)]


def _first_of_families(tasks: Sequence[TaskNote]) -> frozenset[int]:
    """Places of the tasks that begin a family."""
    return frozenset(place for place, task in enumerate(tasks) if not place or tasks[place - 1].family != task.family)


def _breakable(name: str) -> str:
    """A task's name that may be broken after `_`, `-` and `.`."""
    shown = text(shortened(name, _LONGEST_LIBRARY))
    return shown.replace("_", "_<wbr>").replace("-", "-<wbr>").replace(".", ".<wbr>")
