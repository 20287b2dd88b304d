"""A record as a table of texts: methods by tasks, means with standard errors, for a terminal or a Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from explorer.evaluation.record import LOWER_IS_BETTER, EvaluationRecord, Measure, summary

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """A header and rows of as many texts."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def summary_table(record: EvaluationRecord, measures: Sequence[str], titles: Sequence[str], *, held_out: bool) -> Table:
    """Each method's mean over the held-out, or over the other, tasks, by every measure."""
    rows = []
    for method in record.methods:
        means = [words(summary(record, method.key, name, held_out=held_out)) for name in measures]
        rows.append((method.title, method.library, *means))
    return Table(("router", "library", *titles), tuple(rows))


def task_table(record: EvaluationRecord, measure: str, *, held_out: bool) -> Table:
    """Each method on each held-out (or other) task, the mean over them first; the best of a column in bold."""
    tasks = [task.name for task in record.tasks if task.held_out == held_out]
    columns = [[summary(record, method.key, measure, held_out=held_out) for method in record.methods]]
    for task in tasks:
        cells = (record.cell(method.key, task) for method in record.methods)
        columns.append([cell.measures.get(measure) if cell is not None else None for cell in cells])
    texts = [_marked(column, lower=measure in LOWER_IS_BETTER) for column in columns]
    rows = [
        (method.title, method.library, *(column[place] for column in texts))
        for place, method in enumerate(record.methods)
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
    """How much of the way from `base` to `oracle` a method goes, by the mean in-distribution loss: 0 to 1.

    Raises:
        ZeroDivisionError: never; None where a mean is missing or the two ends are one.
    """
    found = [summary(record, key, "loss", held_out=False) for key in (base, oracle, method)]
    first, last, own = (measure.mean if measure else None for measure in found)
    if first is None or last is None or own is None or first == last:
        return None
    return (first - own) / (first - last)


def markdown(table: Table) -> str:
    """The table for a Markdown page; bars in names are escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(table.header), "|" + "---|" * len(table.header), *map(line, table.rows)])
