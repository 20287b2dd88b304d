"""`evaluate LIBRARY --tasks DIR`: loss, exact match and ROUGE-L of every router on every task; stops and goes on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import explorer
from explorer.commands.command import Command, Options, Parser, path, text, whole
from explorer.commands.names import listed
from explorer.commands.opening import add_library, base_for
from explorer.commands.terminal import printable, report, say, say_json
from explorer.errors import SettingsError

if TYPE_CHECKING:
    from explorer.adapters.library import Library
    from explorer.evaluation.methods import Method
    from explorer.evaluation.record import EvaluationRecord
    from explorer.evaluation.run import EvaluationEvent
    from explorer.evaluation.settings import EvaluationSettings
    from explorer.evaluation.store import CellStore
    from explorer.evaluation.transfer import Losses
    from explorer.models.routed_model import RoutedModel
    from explorer.tasks.task import Example, Task

ROUTERS = ("base", "uniform", "arrow", "oracle")
ROUTER_HELP = (
    "one or more of: base, uniform, arrow, calibrated, spectr, lag, linear, ties, random; with settings as "
    "arrow:top_k=1,temperature=0.5; oracle (the task's own adapter); best (the best alone on other rows of the task)"
)
KINDS = {"in-distribution": False, "held-out": True}
INTERRUPTED = 130
CHOOSING_ROWS = 8


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    add_library(parser)
    parser.add_argument("--tasks", metavar="DIR", type=path, required=True, help="folder of .jsonl task files")
    parser.add_argument("--only", metavar="TASK,TASK", default="", help="evaluate these tasks, in this order")
    parser.add_argument("--kind", choices=("all", *KINDS), default="all", help="tasks with or without training rows")
    parser.add_argument("--router", metavar="NAME", type=text, nargs="+", default=list(ROUTERS), help=ROUTER_HELP)
    parser.add_argument(
        "--learned",
        metavar="DIR",
        type=path,
        nargs="+",
        default=[],
        help="what routers learned from examples (`learn`)",
    )
    parser.add_argument("--output", metavar="DIR", type=path, help="folder that keeps the scores and evaluation.json")
    rows = {"rows": "test rows of each task (32)", "choosing-rows": "best: validation rows of each task (8)"}
    for name, what in rows.items():
        parser.add_argument(f"--{name}", metavar="N", type=whole(1, 1_000_000), help=what)
    parser.add_argument("--max-new-tokens", metavar="N", type=whole(1, 4096), help="longest answer (32)")
    parser.add_argument("--no-answers", action="store_true", help="measure the loss only, which is faster")
    parser.add_argument(
        "--transfer", metavar="N", type=whole(1, 1000), help="also the loss of N rows of each task under each adapter"
    )
    parser.add_argument("--plain", action="store_true", help="no chat template: the prompts as they stand")
    parser.add_argument("--base", metavar="MODEL", type=text, help="base model, by default the one the library names")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")


def run(options: Options) -> None:
    """Evaluate; progress on stderr, the table on stdout."""
    from explorer.evaluation.store import CellStore
    from explorer.tasks.folder import read_tasks

    tasks = _of_kind(read_tasks(options.tasks, listed(options.only)), options.kind)
    _check_specs(options.router, tasks)
    store = CellStore(options.output) if options.output else None
    with explorer.open_library(options.library) as library:
        _check_output(options, library)
        routed = explorer.RoutedModel(base_for(library, options.base), library)
        with _stoppable() as stop:
            record, stopped = _Work(routed, library, tasks, options, store, stop).done()
    if options.output:
        record = _kept(record, options.output)
    if options.json:
        from explorer.evaluation.record import as_data

        say_json(as_data(record))
    else:
        print_record(record)
    if stopped:
        print("Stopped. Run the same command again and it goes on.", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _of_kind(tasks: Sequence[Task], kind: str) -> Sequence[Task]:
    """The tasks of one kind.

    Raises:
        SettingsError: there is none.
    """
    found = [task for task in tasks if kind == "all" or task.held_out == KINDS[kind]]
    if not found:
        raise SettingsError("--kind", f"leaves no task: none is {kind}")
    return found


def _check_specs(specs: Sequence[str], tasks: Sequence[Task]) -> None:
    """Refuse a wrong router before the base model is loaded, and two that a table cannot tell apart."""
    from explorer.evaluation.methods import BEST, ORACLE, router_from_spec

    spec_of: dict[str, str] = {}
    for spec in dict.fromkeys(specs):
        label = spec if spec in (ORACLE, BEST) else router_from_spec(spec).label
        if label in spec_of:
            both = f"names {spec_of[label][:60]!r} and {spec[:60]!r}, which are both {label!r} in a table"
            raise SettingsError("--router", both, fix="Leave one of them out.")
        spec_of[label] = spec
    if BEST in specs and not any(task.validation or task.train for task in tasks):
        raise SettingsError("--router best", "needs tasks with validation or training rows")


def _check_output(options: Options, library: Library) -> None:
    """Refuse an output folder that holds another evaluation, before the base model is loaded."""
    from explorer.evaluation.merging import check_alike

    before = _stored(options.output)
    if before is not None:
        check_alike(before, options.base or library.base_model, settings_from(options).as_dict())


def _stored(folder: Path | None) -> EvaluationRecord | None:
    """The record in the output folder, if there is one."""
    from explorer.evaluation.record import FILE, read_record

    return read_record(folder / FILE) if folder is not None and os.path.lexists(folder / FILE) else None


def settings_from(options: Options) -> EvaluationSettings:
    """The evaluation's settings, defaults where nothing was given."""
    from explorer.evaluation.settings import EvaluationSettings

    given = {name: getattr(options, name) for name in ("rows", "max_new_tokens") if getattr(options, name) is not None}
    return EvaluationSettings(answers=not options.no_answers, chat=not options.plain, **given)


@dataclass(frozen=True)
class _Work:
    """One evaluation, with all it needs."""

    routed: RoutedModel
    library: Library
    tasks: Sequence[Task]
    options: Options
    store: CellStore | None
    stop: Callable[[], bool]

    def done(self) -> tuple[EvaluationRecord, bool]:
        """The record, and whether it was stopped before its end."""
        from explorer.evaluation.methods import own_adapters
        from explorer.evaluation.run import evaluate

        events = evaluate(
            self.routed,
            self.tasks,
            self._methods(),
            settings_from(self.options),
            own=own_adapters(self.library),
            store=self.store,
            stop=self.stop,
        )
        record, stopped = _told(events, _stored(self.options.output))
        if self.options.transfer and not stopped:
            record = self._with_transfer(record)
        return record, stopped or self.stop()

    def _methods(self) -> list[Method]:
        from explorer.evaluation import methods as known
        from explorer.learning.store import load_learned

        learned = [load_learned(place, self.library) for place in self.options.learned]
        found: list[Method] = []
        for spec in dict.fromkeys(self.options.router):
            if spec == known.ORACLE:
                found.append(known.oracle(self.library))
            elif spec == known.BEST:
                found.append(known.best_single(self.library, self._best(), self._choosing_rows))
            else:
                router = known.router_from_spec(spec)
                router.check(self.routed.names)
                found.extend(known.methods_of(self.library, [router]))
        return [*found, *known.learned_methods(learned, self.routed, self.library)]

    @property
    def _choosing_rows(self) -> int:
        return self.options.choosing_rows or CHOOSING_ROWS

    def _best(self) -> dict[str, str]:
        """For each task the adapter that loses least on rows which are not tested; of none when stopped."""
        from explorer.evaluation.transfer import best_adapters

        parts = [(task, part) for task in self.tasks if (part := task.validation or task.train)]
        losses = self._under_each(parts, self._choosing_rows, "choosing the best single adapter")
        return {} if losses is None else best_adapters(losses)

    def _with_transfer(self, record: EvaluationRecord) -> EvaluationRecord:
        """The record with the transfer matrix, or as it is when stopped."""
        from explorer.evaluation.methods import own_adapters
        from explorer.evaluation.transfer import transfer_of

        known = {task.name for task in record.tasks}
        parts = [(task, task.test) for task in self.tasks if task.name in known]
        losses = self._under_each(parts, self.options.transfer, "transfer")
        if losses is None:
            return record
        similarity = explorer.similarity(self.library)
        clustering = explorer.cluster(similarity, self.library.clusters)
        transfer = transfer_of(losses, similarity, clustering, own_adapters(self.library))
        return replace(record, transfer=transfer)

    def _under_each(self, parts: Sequence[tuple[Task, Sequence[Example]]], most: int, what: str) -> Losses | None:
        """The loss of the first rows of each part under each adapter, None when stopped."""
        from explorer.evaluation.rows import rows_of
        from explorer.evaluation.transfer import losses_under_each

        chat = not self.options.plain
        rows = {
            task.name: rows_of(self.routed.base, task, most=most, chat=chat, room=0, part=part).rows
            for task, part in parts
        }
        work = losses_under_each(self.routed, rows, self.library, store=self.store, stop=self.stop)
        while True:
            try:
                event = next(work)
            except StopIteration as end:
                return end.value
            report(f"{what}: {event.done} of {event.count} adapters")


def _told(events: Iterator[EvaluationEvent], before: EvaluationRecord | None) -> tuple[EvaluationRecord, bool]:
    """Tell the progress; what the last event holds.

    Raises:
        EvaluationError: at once, before any row is scored, where `before` cannot take the new record.
    """
    from explorer.evaluation.merging import merged
    from explorer.evaluation.run import EvaluationDone, RowsLeftOut, RowsScored, Started

    for event in events:
        match event:
            case RowsLeftOut(sentence=sentence):
                report(sentence)
            case Started(record=record) if before is not None:
                merged(before, record)
            case RowsScored(method=method, task=task, done=done, all_rows=all_rows, seconds_left=left):
                line = f"{task}, {method}: {done} of {all_rows} rows, {left:.0f} s left"
                print(printable(line), file=sys.stderr, flush=True)
            case EvaluationDone(record=record, stopped=stopped):
                return record, stopped
    raise AssertionError("an evaluation ends with its record")


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """While inside, the first Ctrl+C is answered after the step at hand, the second at once."""
    asked: list[bool] = []

    def note(*_: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


def _kept(record: EvaluationRecord, folder: Path) -> EvaluationRecord:
    """Write the record into the output folder, together with what is there already."""
    from explorer.commands.files import write_whole
    from explorer.evaluation.merging import merged
    from explorer.evaluation.record import FILE, write_record

    before = _stored(folder)
    whole_record = record if before is None else merged(before, record)
    write_whole(folder / FILE, lambda scratch: write_record(whole_record, scratch))
    return whole_record


def print_record(record: EvaluationRecord) -> None:
    """The means of every method."""
    from explorer.commands.results import print_overview

    print_overview(record)
    for sentence in record.remarks:
        say(sentence)


COMMAND = Command("evaluate", "measure how well routers answer tasks", add_options, run)
