"""The one place where the page meets the evaluation engine: a user's rows in, the record so far and a line out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from explorer.adapters.library import Library
from explorer.evaluation.methods import Method, methods_of, own_adapters
from explorer.evaluation.record import Cell, EvaluationRecord, TaskNote
from explorer.evaluation.run import CellDone, EvaluationDone, RowsLeftOut, RowsScored, evaluate
from explorer.evaluation.settings import EvaluationSettings
from explorer.models.routed_model import RoutedModel
from explorer.routing.router import Router
from explorer.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Step:
    """How far an evaluation is.

    Attributes:
        record: what is known so far.
        words: for the status line; "" leaves it as it is.
        changed: whether the record has more than the step before.
        ended: whether it is the last step of an evaluation that was not stopped.
    """

    record: EvaluationRecord
    words: str
    changed: bool = False
    ended: bool = False


def steps(
    model: RoutedModel,
    library: Library,
    tasks: Sequence[Task],
    routers: Sequence[Router],
    settings: EvaluationSettings,
    stop: Callable[[], bool],
) -> Iterator[Step]:
    """Evaluate the tasks with each router, step by step (raises as :func:`explorer.evaluation.run.evaluate`)."""
    methods = methods_of(library, routers)
    so_far = _SoFar(model, tasks, methods, settings)
    yield Step(so_far.record(), "Reading the rows", changed=True)
    events = evaluate(model, tasks, methods, settings, own=own_adapters(library), stop=stop)
    with closing(events):  # type: ignore[type-var]
        for event in events:
            if isinstance(event, RowsScored):
                yield Step(so_far.record(), progress_text(event.done, event.all_rows, event.seconds_left))
            elif isinstance(event, RowsLeftOut):
                so_far.remarks.append(event.sentence)
            elif isinstance(event, CellDone):
                so_far.cells.append(event.cell)
                yield Step(so_far.record(), "", changed=True)
            elif isinstance(event, EvaluationDone):
                yield Step(event.record, "", changed=True, ended=not event.stopped)


class _SoFar:
    """The record in the making."""

    def __init__(
        self, model: RoutedModel, tasks: Sequence[Task], methods: Sequence[Method], settings: EvaluationSettings
    ) -> None:
        self.base_model = model.base.name
        self.notes = tuple(method.note for method in methods)
        self.tasks = tuple(
            TaskNote(task.name, task.family, task.held_out, min(settings.rows, len(task.test)), task.test_hash)
            for task in tasks
        )
        self.settings = settings.as_dict()
        self.cells: list[Cell] = []
        self.remarks: list[str] = []

    def record(self) -> EvaluationRecord:
        """What is known so far."""
        return EvaluationRecord(
            self.base_model, self.notes, self.tasks, tuple(self.cells), self.settings, remarks=tuple(self.remarks)
        )


def progress_text(done: int, all_rows: int, seconds_left: float) -> str:
    """`Evaluating: 32 of 96 rows, about 2 min left`."""
    return f"Evaluating: {done:,} of {all_rows:,} rows, {time_left(seconds_left)}"


def time_left(seconds: float) -> str:
    """A time in words, no finer than it can be known."""
    if not math.isfinite(seconds):
        return "time left unknown"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"
