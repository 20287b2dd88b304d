"""Two evaluations of the same tasks as one record: methods of several libraries end up in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from explorer.errors import EvaluationError
from explorer.evaluation.record import EvaluationRecord


def check_alike(old: EvaluationRecord, base_model: str, settings: Mapping[str, Any]) -> None:
    """Refuse to go on with a record of another base model or other settings.

    Raises:
        EvaluationError: it is one.
    """
    for what, before, now in (
        ("base model", old.base_model, base_model),
        ("setting", dict(old.settings), dict(settings)),
    ):
        if before != now:
            raise EvaluationError(
                "The evaluation in the output folder",
                f"was made with another {what}",
                expected=str(before),
                found=str(now),
                fix="Choose another output folder.",
            )


def merged(old: EvaluationRecord, new: EvaluationRecord) -> EvaluationRecord:
    """`old` with the methods, tasks and cells of `new`; where both have a cell, that of `new`.

    Raises:
        EvaluationError: they are of another base model, other settings, or other rows of a task.
    """
    check_alike(old, new.base_model, new.settings)
    known = {task.name: task for task in old.tasks}
    for task in new.tasks:
        before = known.get(task.name, task)
        if (before.test_hash, before.rows) != (task.test_hash, task.rows):
            raise EvaluationError(
                f"Task {task.name!r}", "has other rows than in the output folder", fix="Choose another output folder."
            )
    titles = {method.key: method for method in (*old.methods, *new.methods)}
    cells = {(cell.method, cell.task): cell for cell in (*old.cells, *new.cells)}
    return replace(
        new,
        methods=tuple(titles.values()),
        tasks=tuple({task.name: task for task in (*old.tasks, *new.tasks)}.values()),
        cells=tuple(cells.values()),
        remarks=tuple(dict.fromkeys((*old.remarks, *new.remarks))),
        transfer=new.transfer or old.transfer,
    )
