"""The one place where the page meets the evaluation engine: a user's rows in, the record so far and a line out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from explorer.adapters.library import Library
from explorer.evaluation.methods import methods_of, own_adapters
from explorer.evaluation.record import EvaluationRecord
from explorer.evaluation.run import CellDone, EvaluationDone, RowsScored, Started, evaluate
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
    record = EvaluationRecord(model.base.name, tuple(method.note for method in methods), (), ())
    words = "Reading the rows"
    yield Step(record, words)
    events = evaluate(model, tasks, methods, settings, own=own_adapters(library), stop=stop)
    with closing(events):  # type: ignore[type-var]
        for event in events:
            if isinstance(event, Started):
                record = event.record
                yield Step(record, "", changed=True)
            elif isinstance(event, RowsScored):
                words = progress_text(event.done, event.all_rows, event.seconds_left)
                yield Step(record, words)
            elif isinstance(event, CellDone):
                record = replace(record, cells=(*record.cells, event.cell))
                yield Step(record, words, changed=True)  # the line goes with each result, however fast they come
            elif isinstance(event, EvaluationDone):
                yield Step(event.record, "", changed=True, ended=not event.stopped)


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
