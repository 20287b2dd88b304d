"""`results LIBRARY`: the tables of a stored evaluation, as text or as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from explorer.commands.command import Command, Options, Parser, path
from explorer.commands.terminal import say, say_json, say_table
from explorer.errors import SettingsError

if TYPE_CHECKING:
    from explorer.evaluation.record import EvaluationRecord
    from explorer.evaluation.table import Table


MEANS = "Means over tasks, each with its standard error"


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    parser.add_argument("place", metavar="PLACE", type=path, help="evaluation.json, or a folder that holds it")
    parser.add_argument("--measure", choices=("loss", "exact_match", "rouge_l"), default="loss", help="of the tasks")
    parser.add_argument("--markdown", action="store_true", help="as Markdown")
    parser.add_argument("--json", action="store_true", help="the record itself")


def run(options: Options) -> None:
    """Print the tables."""
    from explorer.evaluation.record import FILE, TITLES, as_data, read_record
    from explorer.evaluation.table import task_table

    place: Path = options.place
    if not place.exists():
        raise SettingsError(str(place), "does not exist", fix="Name an evaluation.json, or the folder that holds it.")
    record = read_record(place / FILE if place.is_dir() else place)
    if options.json:
        say_json(as_data(record))
        return
    print_overview(record, options.markdown)
    for held_out in _kinds(record):
        title = f"{TITLES[options.measure]}, {_kind(held_out)} tasks"
        _print(title, task_table(record, options.measure, held_out=held_out), options.markdown)
    for sentence in record.remarks:
        say(sentence)


def print_overview(record: EvaluationRecord, as_markdown: bool = False) -> None:
    """Print the means of every method."""
    from explorer.evaluation.table import overview

    _print(MEANS, overview(record), as_markdown)


def _kinds(record: EvaluationRecord) -> list[bool]:
    return [held_out for held_out in (False, True) if any(task.held_out == held_out for task in record.tasks)]


def _kind(held_out: bool) -> str:
    return "held-out" if held_out else "in-distribution"


def _print(title: str, table: Table, as_markdown: bool) -> None:
    from explorer.evaluation.table import markdown, plain

    say(title)
    if as_markdown:
        say()
        for line in markdown(table).splitlines():
            say(line)
    else:
        say_table(table.header, plain(table), right=tuple(range(table.named, len(table.header))))
    say()


COMMAND = Command("results", "print the tables of a stored evaluation", add_options, run)
