"""`evaluate LIBRARY --tasks DIR`: loss, exact match and ROUGE-L of every router on every task; stops and goes on."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import explorer
from explorer.commands.command import Command, Options, Parser, path, text, whole
from explorer.commands.opening import add_library, base_for
from explorer.commands.terminal import printable, report, say, say_json
from explorer.errors import SettingsError

if TYPE_CHECKING:
    from explorer.adapters.library import Library
    from explorer.evaluation.methods import Method
    from explorer.evaluation.record import EvaluationRecord
    from explorer.evaluation.run import EvaluationEvent
    from explorer.evaluation.store import CellStore
    from explorer.models.routed_model import RoutedModel
    from explorer.tasks.task import Task

ROUTERS = ("base", "uniform", "arrow", "oracle")
ROUTER_HELP = (
    "one or more of: base, uniform, arrow, calibrated, spectr, lag, linear, ties, random; with settings as "
    "arrow:top_k=1,temperature=0.5; oracle (the task's own adapter); best (the best alone on other rows of the task)"
)
KINDS = {"in-distribution": False, "held-out": True}
INTERRUPTED = 130


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

    tasks = _of_kind(read_tasks(options.tasks, _listed(options.only)), options.kind)
    store = CellStore(options.output) if options.output else None
    with explorer.open_library(options.library) as library:
        _check_specs(options.router)
        _check_output(options, library)
        routed = explorer.RoutedModel(base_for(library, options.base), library)
        with _stoppable() as stop:
            record, stopped = _evaluated(routed, library, tasks, options, store, stop)
            if options.transfer and not stopped:
                record, stopped = _with_transfer(routed, library, tasks, options, store, stop, record)
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


def _check_specs(specs: Sequence[str]) -> None:
    """Refuse a wrong router before the base model is loaded."""
    from explorer.evaluation.methods import BEST, ORACLE, router_from_spec

    for spec in specs:
        if spec not in (ORACLE, BEST):
            router_from_spec(spec)


def _check_output(options: Options, library: Library) -> None:
    """Refuse an output folder that holds another evaluation, before the work begins."""
    from explorer.evaluation.merging import check_alike
    from explorer.evaluation.record import FILE, read_record

    if options.output and (options.output / FILE).exists():
        before = read_record(options.output / FILE)
        check_alike(before, options.base or library.base_model, settings_from(options).as_dict())


def _evaluated(
    routed: RoutedModel,
    library: Library,
    tasks: Sequence[Task],
    options: Options,
    store: CellStore | None,
    stop: Callable[[], bool],
) -> tuple[EvaluationRecord, bool]:
    from explorer.evaluation.methods import own_adapters
    from explorer.evaluation.run import evaluate

    methods = _methods(routed, library, tasks, options, store, stop)
    events = evaluate(routed, tasks, methods, settings_from(options), own=own_adapters(library), store=store, stop=stop)
    return _told(events)


def settings_from(options: Options) -> Any:
    """The evaluation's settings, defaults where nothing was given."""
    from explorer.evaluation.settings import EvaluationSettings

    given = {name: getattr(options, name) for name in ("rows", "max_new_tokens") if getattr(options, name) is not None}
    return EvaluationSettings(answers=not options.no_answers, chat=not options.plain, **given)


def _methods(
    routed: RoutedModel,
    library: Library,
    tasks: Sequence[Task],
    options: Options,
    store: CellStore | None,
    stop: Callable[[], bool],
) -> list[Method]:
    from explorer.evaluation.methods import (
        BEST,
        ORACLE,
        best_single,
        learned_methods,
        methods_of,
        oracle,
        router_from_spec,
    )
    from explorer.learning.store import load_learned

    learned = [load_learned(place, library) for place in options.learned]
    found: list[Method] = []
    for spec in dict.fromkeys(options.router):
        if spec == ORACLE:
            found.append(oracle(library))
        elif spec == BEST:
            found.append(best_single(library, _best(routed, library, tasks, options, store, stop)))
        else:
            router = router_from_spec(spec)
            router.check(routed.names)
            found.extend(methods_of(library, [router]))
    return [*found, *learned_methods(learned, routed, library)]


def _best(
    routed: RoutedModel,
    library: Library,
    tasks: Sequence[Task],
    options: Options,
    store: CellStore | None,
    stop: Callable[[], bool],
) -> dict[str, str]:
    """For each task the adapter that loses least on rows which are not tested."""
    from explorer.evaluation.rows import rows_of
    from explorer.evaluation.transfer import best_adapters

    most = options.choosing_rows or 8
    rows = {
        task.name: rows_of(routed.base, task, most=most, chat=not options.plain, room=0, part=part).rows
        for task in tasks
        if (part := task.validation or task.train)
    }
    if not rows:
        raise SettingsError("--router best", "needs tasks with validation or training rows")
    losses = _under_each(routed, rows, library, store, stop, "choosing the best single adapter")
    return best_adapters(losses) if losses is not None else {}


def _with_transfer(
    routed: RoutedModel,
    library: Library,
    tasks: Sequence[Task],
    options: Options,
    store: CellStore | None,
    stop: Callable[[], bool],
    record: EvaluationRecord,
) -> tuple[EvaluationRecord, bool]:
    """The record with the transfer matrix."""
    from dataclasses import replace

    from explorer.evaluation.methods import own_adapters
    from explorer.evaluation.rows import rows_of
    from explorer.evaluation.transfer import transfer_of

    known = {task.name for task in record.tasks}
    rows = {
        task.name: rows_of(routed.base, task, most=options.transfer, chat=not options.plain, room=0).rows
        for task in tasks
        if task.name in known
    }
    losses = _under_each(routed, rows, library, store, stop, "transfer")
    if losses is None:
        return record, True
    similarity = explorer.similarity(library)
    clustering = explorer.cluster(similarity, library.clusters)
    return replace(record, transfer=transfer_of(losses, similarity, clustering, own_adapters(library))), False


def _under_each(
    routed: RoutedModel,
    rows: dict[str, Any],
    library: Library,
    store: CellStore | None,
    stop: Callable[[], bool],
    what: str,
) -> Any:
    from explorer.evaluation.transfer import losses_under_each

    work = losses_under_each(routed, rows, library, store=store, stop=stop)
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            return end.value
        report(f"{what}: {event.done} of {event.count} adapters")


def _told(events: Iterator[EvaluationEvent]) -> tuple[EvaluationRecord, bool]:
    """Tell the progress; what the last event holds."""
    from explorer.evaluation.run import CellDone, EvaluationDone, RowsLeftOut, RowsScored

    for event in events:
        match event:
            case RowsLeftOut(sentence=sentence):
                report(sentence)
            case RowsScored(method=method, task=task, done=done, all_rows=all_rows, seconds_left=left):
                line = f"{task}, {method}: {done} of {all_rows} rows, {left:.0f} s left"
                print(printable(line), file=sys.stderr, flush=True)
            case CellDone():
                pass
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
    from explorer.evaluation.record import FILE, read_record, write_record

    target = folder / FILE
    whole_record = merged(read_record(target), record) if target.exists() else record
    write_whole(target, lambda scratch: write_record(whole_record, scratch))
    return whole_record


def print_record(record: EvaluationRecord) -> None:
    """The means of every method."""
    from explorer.commands.results import print_overview

    print_overview(record)
    for sentence in record.remarks:
        say(sentence)


def _listed(names: str) -> tuple[str, ...]:
    listed = tuple(name.strip() for name in names.split(",") if name.strip())
    if names and not listed:
        raise SettingsError("--only", expected="names with commas between", found=repr(names[:40]))
    return listed


COMMAND = Command("evaluate", "measure how well routers answer tasks", add_options, run)
