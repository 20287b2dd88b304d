"""`tasks fetch`, `tasks convert`, `tasks list`: task folders from BIG-bench, and what is in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from explorer.commands.command import SEED, Command, Options, Parser, any_text, path, text, whole
from explorer.commands.files import check_place, write_whole
from explorer.commands.terminal import report, say, say_json, say_table

if TYPE_CHECKING:
    from explorer.tasks.bigbench import BigBenchTask
    from explorer.tasks.draw import Item
    from explorer.tasks.task import Task

HASH_SHOWN = 12
DISK = 64 << 20
SAMPLE_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def add_options(parser: Parser) -> None:
    """Add the three actions, each with its own options."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, what, add, act in (
        ("fetch", "write the sample library's tasks, made from BIG-bench 1.0.0", _add_fetch, _fetch),
        ("convert", "make a task file of any task.json of BIG-bench", _add_convert, _convert),
        ("list", "show what is in a folder of task files", _add_list, _list),
    ):
        action = actions.add_parser(name, help=what, description=what)
        action.set_defaults(act=act)
        add(action)
        action.add_argument("--json", action="store_true", help="print the tasks as JSON")


def run(options: Options) -> None:
    """Do what the chosen action does."""
    act: Callable[[Options], None] = options.act
    act(options)


def _add_fetch(parser: Parser) -> None:
    parser.add_argument("--output", metavar="DIR", type=path, required=True, help="new folder that takes the tasks")
    parser.add_argument("--only", metavar="TASK,TASK", type=text, help="these tasks alone")
    parser.add_argument("--sdist", metavar="FILE", type=path, help="bigbench-1.0.0.tar.gz, if it is at hand")


def _fetch(options: Options) -> None:
    """Fetch what is not in the cache yet, and write the folder whole."""
    from explorer.exporting.whole_folder import check_folder, whole_folder
    from explorer.tasks.bigbench import read_task_json
    from explorer.tasks.sample import SAMPLE_TASKS
    from explorer.tasks.sample_facts import sample_facts
    from explorer.tasks.sample_rows import chosen, make_tasks
    from explorer.tasks.sdist import BIG_BENCH, task_files
    from explorer.tasks.writing import write_notice, write_task

    wanted = chosen([] if options.only is None else [name.strip() for name in options.only.split(",")])
    check_folder(options.output, DISK)
    paths = tuple(place for task in SAMPLE_TASKS for place in task.paths)
    files = task_files(BIG_BENCH, paths, report, options.sdist)

    made = []
    with whole_folder(options.output, DISK) as folder:
        for task in make_tasks(wanted, lambda place: read_task_json(files[place]), sample_facts()):
            report(f"Writing {task.name}")
            write_task(folder / f"{task.name}.jsonl", task)
            made.append(task)
        write_notice(folder, read_task_json(files[paths[0]]).canary)
    _tell(options, made, f"{options.output}: {len(made)} tasks")


def _add_convert(parser: Parser) -> None:
    parser.add_argument("file", metavar="TASK.json", type=path, help="a task.json of BIG-bench")
    parser.add_argument("--output", metavar="FILE.jsonl", type=path, required=True, help="file that takes the rows")
    parser.add_argument("--name", metavar="NAME", type=text, help="of the task (the name of the output file)")
    parser.add_argument("--family", metavar="NAME", type=any_text, default="", help="kind of task")
    parser.add_argument("--instruction", metavar="TEXT", type=any_text, help="in place of the task's own; '' for none")
    parser.add_argument(
        "--after", metavar="TEXT", type=any_text, default="", help="of its own, only what follows this ('Prompt:')"
    )
    parser.add_argument("--no-prefixes", action="store_true", help="leave out the task's input and output prefixes")
    parser.add_argument("--choices", action="store_true", help="list the choices after the input")
    rows = parser.add_argument_group("rows")
    rows.add_argument(
        "--max-tokens", metavar="N", type=whole(0, 100_000), default=200, help="longest row (200; 0: any)"
    )
    rows.add_argument("--base", metavar="MODEL", type=text, default=SAMPLE_BASE, help="model that counts the tokens")
    rows.add_argument(
        "--test-share", metavar="P", type=whole(0, 100), default=12, help="percent of texts to test on (12)"
    )
    rows.add_argument("--train-rows", metavar="N", type=whole(1, 10**7), default=1_200, help="at most (1200)")
    rows.add_argument("--test-rows", metavar="N", type=whole(1, 10**7), default=100, help="at most (100)")
    rows.add_argument(
        "--rounds", metavar="N", type=whole(1, 100), default=1, help="references that train, a prompt (1)"
    )
    rows.add_argument("--seed", metavar="N", type=SEED, default=0, help="of the order (0)")


def _convert(options: Options) -> None:
    """Convert one file; what was left out is told."""
    from explorer.errors import TaskDataError
    from explorer.tasks.bigbench import read_task_json
    from explorer.tasks.draw import Draw, drawn
    from explorer.tasks.writing import write_task

    name, family = _names(options)
    check_place(options.output)
    raw = read_task_json(options.file)
    answered = _items(options, raw)
    if not answered:
        raise TaskDataError(options.file.name, "has no example with both a prompt and an answer")
    items, left_out = _short_enough(options, answered)
    draw = Draw(options.test_share, options.rounds, options.train_rows, options.test_rows, options.seed)
    task = drawn(items, draw).task(name, family)
    if not task.train and not task.test:
        raise TaskDataError(options.file.name, "gives no row", fix="Allow longer ones with --max-tokens.")
    write_whole(options.output, lambda place: write_task(place, task))
    unanswered = len(raw.examples) - len(answered)
    _tell(options, [task], f"{options.output}: left out {left_out} too long, {unanswered} without prompt or answer")


def _names(options: Options) -> tuple[str, str]:
    """Name and family of the converted task.

    Raises:
        SettingsError: one of them is not usable.
    """
    from explorer.errors import SettingsError
    from explorer.tasks.text import NAME_RULE, is_family, is_name, name_of_file

    name = options.name or name_of_file(options.output)
    if not is_name(name):
        raise SettingsError("--name", f"is not usable: {name[:40]!r}", fix=NAME_RULE)
    if not is_family(options.family):
        raise SettingsError("--family", "must be text on one line, of at most 80 characters")
    return name, options.family


def _items(options: Options, raw: BigBenchTask) -> list[Item]:
    """Every example with a prompt and an answer."""
    from explorer.tasks.bigbench import Wording, prompt_of
    from explorer.tasks.draw import Item, plain

    wording = Wording(options.instruction, options.after, not options.no_prefixes, options.choices)
    items = (Item(prompt_of(raw, one, wording), one.answers, plain(one.text)) for one in raw.examples)
    return [item for item in items if item.prompt and item.answers]


def _short_enough(options: Options, items: list[Item]) -> tuple[list[Item], int]:
    """Those of at most so many tokens, prompt and answer together, and how many were not."""
    if not options.max_tokens:
        return items, 0
    from explorer.models.counting import token_counts

    texts = [item.prompt for item in items] + [item.answers[0] for item in items]
    counts = token_counts(options.base, texts, report)
    lengths = zip(items, counts, counts[len(items) :], strict=False)
    kept = [item for item, prompt, answer in lengths if prompt + answer <= options.max_tokens]
    return kept, len(items) - len(kept)


def _add_list(parser: Parser) -> None:
    parser.add_argument("tasks", metavar="DIR", type=path, help="folder of .jsonl task files, or one such file")


def _list(options: Options) -> None:
    from explorer.tasks.folder import read_tasks

    _tell(options, read_tasks(options.tasks))


def _tell(options: Options, tasks: Sequence[Task], last: str = "") -> None:
    """The tasks as a table, or as JSON."""
    if options.json:
        say_json({"tasks": [_facts(task) for task in tasks]})
        return
    rows = []
    for task in tasks:
        sizes = (str(len(part)) for part in (task.train, task.validation, task.test))
        rows.append([task.name, task.family, *sizes, task.data_hash[:HASH_SHOWN]])
    say_table(["task", "family", "train", "validation", "test", "data hash"], rows, right=(2, 3, 4))
    if last:
        say(last)


def _facts(task: Task) -> dict[str, object]:
    return {
        "task": task.name,
        "family": task.family,
        "held_out": task.held_out,
        "train": len(task.train),
        "validation": len(task.validation),
        "test": len(task.test),
        "data_sha256": task.data_hash,
        "test_sha256": task.test_hash,
    }


COMMAND = Command("tasks", "task files: fetch the sample's, convert BIG-bench's, list what is there", add_options, run)
