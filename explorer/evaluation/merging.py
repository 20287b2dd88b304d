"""Two evaluations of the same tasks as one record: methods of several libraries end up in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from explorer.errors import EvaluationError
from explorer.evaluation.record import EvaluationRecord, MethodNote

ANOTHER_FOLDER = "Choose another output folder."


def check_methods(old: Sequence[MethodNote], new: Sequence[MethodNote]) -> None:
    """Refuse to put two methods of one title into one row, when it is another library or was learned otherwise.

    Raises:
        EvaluationError: there are such.
    """
    known = {method.key: method for method in old}
    for method in new:
        before = known.get(method.key, method)
        if before.library_hash != method.library_hash:
            raise EvaluationError(
                f"Library {method.library!r}",
                "is another of this title than in the output folder",
                fix=f"{ANOTHER_FOLDER} Or give it a title of its own in its library.json.",
            )
        if before.identity and method.identity and before.identity != method.identity:
            what = "is not the one of this title in the output folder: it has other settings or learned otherwise"
            raise EvaluationError(f"{method.title!r}", what, fix=ANOTHER_FOLDER)


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
                expected=str(before)[:200],
                found=str(now)[:200],
                fix=ANOTHER_FOLDER,
            )


def merged(old: EvaluationRecord, new: EvaluationRecord) -> EvaluationRecord:
    """`old` with the methods, tasks and cells of `new`; where both have a cell, that of `new`.

    Raises:
        EvaluationError: they are of another base model, other settings, other rows of a task, or two methods of the
            same title that are not the same.
    """
    check_alike(old, new.base_model, new.settings)
    if old.base_hash != new.base_hash:
        raise EvaluationError(
            "The evaluation in the output folder", "was made when the base model was another", fix=ANOTHER_FOLDER
        )
    known = {task.name: task for task in old.tasks}
    for task in new.tasks:
        before = known.get(task.name, task)
        if (before.test_hash, before.rows) != (task.test_hash, task.rows):
            raise EvaluationError(f"Task {task.name!r}", "has other rows than in the output folder", fix=ANOTHER_FOLDER)
    check_methods(old.methods, new.methods)
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
