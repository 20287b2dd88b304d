"""An evaluation: every method on every task, batch by batch, as events; what was done before is not done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from explorer.errors import EvaluationError, TaskDataError
from explorer.evaluation.methods import Method, hash_of
from explorer.evaluation.metrics import exact_match, measure_of, rouge_l
from explorer.evaluation.record import Cell, EvaluationRecord, Measure, TaskNote
from explorer.evaluation.rows import TestRows, batches_of, rows_of
from explorer.evaluation.scoring import RowScore, score_rows
from explorer.evaluation.settings import EvaluationSettings
from explorer.evaluation.store import CellStore
from explorer.models.routed_model import RoutedModel
from explorer.routing.router import Router
from explorer.tasks.task import Task

Stop = Callable[[], bool]
BATCH_ROWS = 32


@dataclass(frozen=True)
class RowsLeftOut:
    """Some rows of a task are not evaluated; `sentence` says how many and why."""

    task: str
    sentence: str


@dataclass(frozen=True)
class Started:
    """The rows are read and nothing is scored yet: the record without a cell, to which each `CellDone` adds one."""

    record: EvaluationRecord


@dataclass(frozen=True)
class RowsScored:
    """One batch is done. `done` and `all_rows` count rows over all methods and tasks that are still to do."""

    method: str
    task: str
    done: int
    all_rows: int
    seconds_left: float


@dataclass(frozen=True)
class CellDone:
    """One method on one task; `known` where it was found in the store."""

    cell: Cell
    known: bool


@dataclass(frozen=True)
class EvaluationDone:
    """The record of all cells there are; `stopped` when some are missing."""

    record: EvaluationRecord
    stopped: bool


EvaluationEvent = RowsLeftOut | Started | RowsScored | CellDone | EvaluationDone


def evaluate(
    routed: RoutedModel,
    tasks: Sequence[Task],
    methods: Sequence[Method],
    settings: EvaluationSettings | None = None,
    *,
    own: Mapping[str, str] | None = None,
    store: CellStore | None = None,
    stop: Stop | None = None,
) -> Iterator[EvaluationEvent]:
    """Score the tasks' test rows with every method; the last event holds the record.

    Args:
        routed: a library on its base model.
        tasks: with test rows; others are left out, in words.
        methods: of that library.
        settings: by default those of `EvaluationSettings`.
        own: the right adapter of each task, whose share of the weights is noted (`methods.own_adapters`).
        store: where scores are kept and found again.
        stop: asked before each batch and each token; when it answers true the record of what is done ends the run.

    Raises:
        EvaluationError: no method, two alike, or no task with a usable test row.
        SettingsError: a router does not fit the library.
        BaseModelError: the routed model gives values that are not numbers.
    """
    keys = [method.note.key for method in methods]
    if not keys:
        raise EvaluationError("Evaluation", "needs at least one method")
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise EvaluationError("Evaluation", f"has {twice!r} twice", fix="Leave one of them out.")
    run = _Run(routed, methods, settings or EvaluationSettings(), own or {}, store, stop or (lambda: False))
    return run.events(tasks)


class _Run:
    """One evaluation under way."""

    def __init__(
        self,
        routed: RoutedModel,
        methods: Sequence[Method],
        settings: EvaluationSettings,
        own: Mapping[str, str],
        store: CellStore | None,
        stop: Stop,
    ) -> None:
        self.routed, self.methods, self.settings = routed, methods, settings
        self.own, self.store, self.stop = own, store, stop
        self.rows: dict[str, TestRows] = {}
        self.cells: list[Cell] = []
        self.pace = _Pace()

    def events(self, tasks: Sequence[Task]) -> Iterator[EvaluationEvent]:
        """All of them."""
        remarks = []
        for task in tasks:
            for sentence in self._encode(task):
                remarks.append(sentence)
                yield RowsLeftOut(task.name, sentence)
        usable = [task for task in tasks if task.name in self.rows]
        if not usable:
            raise EvaluationError("Evaluation", "has no task with a usable test row", fix=" ".join(remarks[:3]))
        yield Started(self._record(usable, remarks))
        todo = [(task, method) for task in usable for method in self.methods if self._has_router(task, method)]
        known = {pair: self._recalled(*pair) for pair in todo}
        self.pace.expect(sum(self._count(task) for task, method in todo if known[task, method] is None))
        stopped = False
        for task, method in todo:
            scores = known[task, method]
            if scores is None:
                scores = yield from self._scored(task, method)
            if scores is None:
                stopped = True
                break
            self.cells.append(self._cell(task, method, scores))
            yield CellDone(self.cells[-1], known=known[task, method] is not None)
        yield EvaluationDone(self._record(usable, remarks), stopped)

    def _encode(self, task: Task) -> Iterator[str]:
        settings = self.settings
        room = settings.max_new_tokens  # with or without answers, so that both are of the same rows
        try:
            found = rows_of(self.routed.base, task, most=settings.rows, chat=settings.chat, room=room)
        except TaskDataError as error:
            yield error.sentence
            return
        self.rows[task.name] = found
        if found.left_out:
            yield found.told(task.name)

    def _count(self, task: Task) -> int:
        return len(self.rows[task.name].rows)

    def _has_router(self, task: Task, method: Method) -> bool:
        return method.router(task.name, self.rows[task.name].rows[0].example.prompt) is not None

    def _routers(self, task: Task, method: Method) -> list[Router]:
        found = [method.router(task.name, row.example.prompt) for row in self.rows[task.name].rows]
        return [router for router in found if router is not None]

    def _recalled(self, task: Task, method: Method) -> list[RowScore] | None:
        return self.store.recall(self._key(task, method), self._count(task)) if self.store else None

    def _watched(self, task: Task, method: Method) -> str | None:
        return self.own.get(task.name) if method.routes else None

    def _key(self, task: Task, method: Method) -> str:
        """Stands for everything that the scores of one cell depend on."""
        base = self.routed.base
        settings = self.settings
        written = f"{settings.max_new_tokens} tokens" if settings.answers else "no answers"
        rows = repr([(row.ids, row.prompt_length) for row in self.rows[task.name].rows])
        watched = self._watched(task, method) or ""
        precision = str(base.model.dtype)
        return hash_of(base.name + base.content_id, precision, method.identity, rows, written, watched)[:40]

    def _scored(self, task: Task, method: Method) -> Generator[RowsScored, None, list[RowScore] | None]:
        """Score one cell batch by batch and keep it; returns its scores, or None when stopped."""
        rows, routers = self.rows[task.name].rows, self._routers(task, method)
        watched = self._watched(task, method)
        found: dict[int, RowScore] = {}
        for batch in batches_of(rows, BATCH_ROWS):
            scores = None
            if not self.stop():
                scores = score_rows(
                    self.routed,
                    [rows[index] for index in batch],
                    [routers[index] for index in batch],
                    max_new_tokens=self.settings.max_new_tokens if self.settings.answers else 0,
                    watched=[watched] * len(batch),
                    stop=self.stop,
                )
            if scores is None:
                return None
            found.update(zip(batch, scores, strict=True))
            self.pace.advance(len(batch))
            yield RowsScored(method.note.key, task.name, self.pace.done, self.pace.expected, self.pace.seconds_left)
        ordered = [found[index] for index in range(len(rows))]
        if self.store is not None:
            self.store.keep(self._key(task, method), method.note.key, task.name, ordered)
        return ordered

    def _cell(self, task: Task, method: Method, scores: Sequence[RowScore]) -> Cell:
        measures: dict[str, Measure] = {"loss": measure_of([score.loss for score in scores])}
        answered = [
            (score.answer, row.example.answers)
            for score, row in zip(scores, self.rows[task.name].rows, strict=True)
            if score.answer is not None
        ]
        if answered:
            measures["exact_match"] = measure_of([exact_match(*pair) for pair in answered])
            measures["rouge_l"] = measure_of([rouge_l(*pair) for pair in answered])
        layers = list(scores[0].own_share)
        share = {layer: float(np.mean([score.own_share.get(layer, 0.0) for score in scores])) for layer in layers}
        return Cell(method.note.key, task.name, measures, share)

    def _record(self, tasks: Sequence[Task], remarks: Sequence[str]) -> EvaluationRecord:
        return EvaluationRecord(
            base_model=self.routed.base.name,
            methods=tuple(method.note for method in self.methods),
            tasks=tuple(
                TaskNote(task.name, task.family, task.held_out, self._count(task), task.test_hash) for task in tasks
            ),
            cells=tuple(self.cells),
            settings=self.settings.as_dict(),
            versions={name: version(name) for name in ("torch", "transformers", "rouge-score")},
            remarks=tuple(remarks),
            base_hash=self.routed.base.content_id,
        )


class _Pace:
    """How many rows are done, of how many, and how long the rest will take."""

    def __init__(self) -> None:
        self.done = self.expected = 0
        self._started = time.monotonic()

    def expect(self, rows: int) -> None:
        self.expected, self._started = rows, time.monotonic()

    def advance(self, rows: int) -> None:
        self.done += rows

    @property
    def seconds_left(self) -> float:
        return (time.monotonic() - self._started) / max(self.done, 1) * (self.expected - self.done)
