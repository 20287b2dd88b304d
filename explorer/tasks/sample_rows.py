"""The sample's tasks made again from BIG-bench's files: the very rows that the shipped adapters were trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from explorer.errors import TaskDataError
from explorer.settings import cache_folder
from explorer.tasks.bigbench import BigBenchTask, framed
from explorer.tasks.draw import Drawn, Item, drawn, spare_rows
from explorer.tasks.sample import SAMPLE_TASKS, SampleTask
from explorer.tasks.sample_facts import SampleFacts
from explorer.tasks.task import Task

MOST_VALIDATION = 32
ReadTask = Callable[[str], BigBenchTask]


def chosen(names: Sequence[str]) -> tuple[SampleTask, ...]:
    """The tasks called so, in that order; all, if there are no names.

    Raises:
        TaskDataError: the sample has no such task; the message lists what it has.
    """
    known = {task.name: task for task in SAMPLE_TASKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise TaskDataError("The sample", f"has no task {unknown[0][:40]!r}", fix=f"It has: {', '.join(known)}.")
    return tuple(known[name] for name in dict.fromkeys(names)) or SAMPLE_TASKS


def make_tasks(wanted: Sequence[SampleTask], read: ReadTask, facts: SampleFacts) -> Iterator[Task]:
    """Make each task; held-out ones get validation rows, whose texts no test row of any task is about.

    Args:
        wanted: of :func:`chosen`.
        read: gives the content of a BIG-bench path.
        facts: of :func:`~explorer.tasks.sample_facts.sample_facts`.

    Raises:
        TaskDataError: the rows are not those that the shipped adapters know.
    """
    held_out = any(task.held_out for task in wanted)
    made = {task.name: rows_of(task, read, facts) for task in (SAMPLE_TASKS if held_out else wanted)}
    tested = frozenset().union(*(rows.tested for rows in made.values()))
    for task in wanted:
        rows = made[task.name]
        plain = checked(rows.task(task.name, task.family, held_out=task.held_out), facts)
        yield replace(plain, validation=spare_rows(rows, tested, MOST_VALIDATION)) if task.held_out else plain


def rows_of(task: SampleTask, read: ReadTask, facts: SampleFacts) -> Drawn:
    """The task's rows, drawn; only a held-out one keeps its spare items."""
    rows = drawn([item for path in task.paths for item in _items(task, path, read(path), facts)], task.draw)
    return rows if task.held_out else replace(rows, spare=())


def _items(task: SampleTask, path: str, raw: BigBenchTask, facts: SampleFacts) -> Iterator[Item]:
    for example in raw.examples:
        if facts.keeps(path, example.row):
            text = facts.shortened(path, example.row, example.text)
            yield Item(framed(raw, text, task.wording), example.answers, task.source(example))


def checked(task: Task, facts: SampleFacts) -> Task:
    """The task itself, if its training and test rows are the known ones.

    Raises:
        TaskDataError: they are not, so test rows might have trained an adapter.
    """
    known = facts.data_sha256[task.name]
    if task.data_hash != known:
        raise TaskDataError(
            f"Task {task.name}",
            "came out with other rows than the sample's adapters were trained on",
            expected=known[:16],
            found=task.data_hash[:16],
            fix=f"Remove {cache_folder() / 'tasks'} and fetch again.",
        )
    return task
