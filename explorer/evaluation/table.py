"""A record as a table of texts: methods by tasks, means with standard errors, for a terminal or a Markdown page."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from explorer.evaluation.record import (
    LOWER_IS_BETTER,
    ORACLE_TITLE,
    EvaluationRecord,
    Measure,
    MethodNote,
    summary,
)

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """A header and rows of as many texts; the first `named` columns say what a row is, the others are numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    named: int = 2


def overview(record: EvaluationRecord) -> Table:
    """Each method's means: the loss on tasks with training rows and how far it goes from base to oracle, held-out ones.

    The third column says what a method needs besides the library, if any needs something. Columns without any number
    are left out. The best of a column is bold; the oracle, which knows the task, and ties are bold as well where they
    are best.
    """
    texts = {"in-distribution loss": _texts(record, "loss", held_out=False), "of the gap": _gaps(record)}
    for held_out, kind in ((False, "in-distribution"), (True, "held-out")):
        for name, title in (("loss", "loss"), ("exact_match", "exact match"), ("rouge_l", "ROUGE-L")):
            texts.setdefault(f"{kind} {title}", _texts(record, name, held_out=held_out))
    shown = {title: column for title, column in texts.items() if set(column) != {NOTHING}}
    named = {
        "router": [method.title for method in record.methods],
        "library": [method.library for method in record.methods],
    }
    if any(method.uses for method in record.methods):
        named["needs"] = [method.uses or NOTHING for method in record.methods]
    columns = named | shown
    return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), len(named))


def ends(record: EvaluationRecord) -> tuple[MethodNote, MethodNote] | None:
    """The base model and the first oracle: the two ends of the gap that others go a part of; None without both."""
    base = next((method for method in record.methods if not method.library), None)
    oracle = next((method for method in record.methods if method.title == ORACLE_TITLE), None)
    return (base, oracle) if base and oracle else None


def _gaps(record: EvaluationRecord) -> list[str]:
    found = ends(record)
    if found is None:
        return [NOTHING] * len(record.methods)
    first, last = found
    shares = [gap_recovered(record, method.key, base=first.key, oracle=last.key) for method in record.methods]
    return [NOTHING if share is None else f"{share:.0%}".replace("-0%", "0%") for share in shares]


def _texts(record: EvaluationRecord, measure: str, *, held_out: bool) -> list[str]:
    column = [summary(record, method.key, measure, held_out=held_out) for method in record.methods]
    return _marked(column, lower=measure in LOWER_IS_BETTER)


def task_table(record: EvaluationRecord, measure: str, *, held_out: bool) -> Table:
    """Each method on each held-out (or other) task, the mean over them first; the best of a column in bold.

    Methods that were measured on none of them are left out.
    """
    tasks = [task.name for task in record.tasks if task.held_out == held_out]
    columns = [[summary(record, method.key, measure, held_out=held_out) for method in record.methods]]
    for task in tasks:
        cells = (record.cell(method.key, task) for method in record.methods)
        columns.append([cell.measures.get(measure) if cell is not None else None for cell in cells])
    texts = [_marked(column, lower=measure in LOWER_IS_BETTER) for column in columns]
    rows = [
        (method.title, method.library, *found)
        for place, method in enumerate(record.methods)
        if set(found := [column[place] for column in texts]) != {NOTHING}
    ]
    return Table(("router", "library", f"mean of {len(tasks)}", *tasks), tuple(rows))


def _marked(column: Sequence[Measure | None], *, lower: bool) -> list[str]:
    means = [measure.mean for measure in column if measure is not None]
    best = (min(means) if lower else max(means)) if means else None
    return [f"**{words(measure)}**" if measure and measure.mean == best else words(measure) for measure in column]


def words(measure: Measure | None) -> str:
    """`0.123 ± 0.045`, or a dash."""
    if measure is None:
        return NOTHING
    error = "" if measure.error is None else f" ± {measure.error:.3f}"
    return f"{measure.mean:.3f}{error}"


def gap_recovered(record: EvaluationRecord, method: str, *, base: str, oracle: str) -> float | None:
    """How much of the way from `base` to `oracle` a method goes by the mean in-distribution loss (1: all of it).

    None where a mean is missing, or where the oracle is no better than the base model: then there is no gap.
    """
    found = [summary(record, key, "loss", held_out=False) for key in (base, oracle, method)]
    first, last, own = (measure.mean if measure else None for measure in found)
    if first is None or last is None or own is None or last >= first:
        return None
    return (first - own) / (first - last)


def markdown(table: Table) -> str:
    """The table for a Markdown page; what Markdown or HTML would take for marks is escaped in names."""

    def line(cells: Sequence[str], named: int) -> str:
        shown = [_escaped(cell) if place < named else cell for place, cell in enumerate(cells)]
        return "| " + " | ".join(shown) + " |"

    rows = [line(row, table.named) for row in table.rows]
    return "\n".join([line(table.header, len(table.header)), "|" + "---|" * len(table.header), *rows])


def _escaped(name: str) -> str:
    """Underscores inside words mean nothing to Markdown, and stay."""
    marked = re.sub(r"([\\|*`\[\]~]|(?<!\w)_|_(?!\w))", r"\\\1", name)
    return html.escape(marked, quote=False)


def plain(table: Table) -> list[tuple[str, ...]]:
    """The rows for a terminal: without the marks of the best."""
    return [(*row[: table.named], *(cell.replace("**", "") for cell in row[table.named :])) for row in table.rows]
