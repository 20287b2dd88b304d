"""`learn LIBRARY --tasks DIR --router NAME --output DIR`: what a router learns from examples, kept for later."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import explorer
from explorer.commands.command import SEED, Command, Options, Parser, number, path, text, whole
from explorer.commands.opening import add_library, base_for
from explorer.commands.terminal import printable, say, say_json
from explorer.errors import SettingsError

if TYPE_CHECKING:
    from explorer.learning.learned import Learned
    from explorer.learning.progress import Watch
    from explorer.models.routed_model import RoutedModel
    from explorer.tasks.task import Task

FINETUNE = "finetune"
OF_EVERY_ADAPTER = ("centroid", "predictor", "phatgoose")
OF_ONE_TASK = ("lorahub", "mixture", FINETUNE)
LINES = 20  # of progress


def one_of(*words: str) -> Callable[[str], str]:
    """An option's type: one of these words."""

    def read(value: str) -> str:
        if value not in words:
            raise argparse.ArgumentTypeError(f"must be {' or '.join(words)}, not {value[:40]!r}")
        return value

    return read


SETTINGS: Mapping[str, tuple[str, Callable[[str], Any], str]] = {
    "examples": ("N", whole(1, 1_000_000), "of each adapter, or of the target task"),
    "steps": ("N", whole(1, 1_000_000), "phatgoose (of each adapter), mixture, finetune"),
    "evaluations": ("N", whole(1, 1_000_000), "lorahub: of the loss"),
    "batch_size": ("N", whole(1, 4096), "rows a step"),
    "learning_rate": ("X", number(1e-9, 100.0), "phatgoose, mixture, finetune"),
    "temperature": ("T", number(1e-6, 1e6), "centroid: of the softmax, on top of the root of the width (1)"),
    "strength": ("C", number(1e-6, 1e6), "predictor: inverse of the penalty on large coefficients"),
    "per": (
        "WHAT",
        one_of("layer", "module"),
        "mixture: a weight for each adapter and `layer` (default) or `module`",
    ),
    "start": (
        "WHAT",
        one_of("arrow", "uniform", "scratch"),
        "finetune: from `arrow`'s mean weights (default), `uniform` ones, or `scratch` (the control)",
    ),
    "rank": ("R", whole(1, 1024), "finetune: of the new adapter (the library's largest)"),
    "seed": ("N", SEED, "of every choice (0)"),
}


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    add_library(parser)
    parser.add_argument("--tasks", metavar="DIR", type=path, required=True, help="folder of .jsonl task files")
    parser.add_argument(
        "--router", metavar="NAME", choices=(*OF_EVERY_ADAPTER, *OF_ONE_TASK), required=True,
        help=f"from examples of each adapter's own task: {', '.join(OF_EVERY_ADAPTER)}; "
        f"from a few examples of one task: {', '.join(OF_ONE_TASK)}",
    )  # fmt: skip
    parser.add_argument("--target", metavar="TASK", type=text, help=f"{', '.join(OF_ONE_TASK)}: the task")
    parser.add_argument(
        "--output", metavar="DIR", type=path, required=True,
        help="new folder for what is learned; finetune: the folder that takes the adapter, named by its task",
    )  # fmt: skip
    for name, (metavar, kind, what) in SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, type=kind, help=what)
    parser.add_argument("--plain", action="store_true", help="no chat template: the prompts as they stand")
    parser.add_argument("--base", metavar="MODEL", type=text, help="base model, by default the one the library names")
    parser.add_argument("--json", action="store_true", help="print what was learned, but the numbers, as JSON")


def run(options: Options) -> None:
    """Learn; progress on stderr, what came out on stdout."""
    _check_target(options)
    learn = learner(options.router)
    settings = _settings(options, learn)
    from explorer.tasks.folder import read_tasks

    tasks = read_tasks(options.tasks, (options.target,) if options.target else ())
    _check_place(options, tasks)
    with explorer.open_library(options.library) as library:
        routed = explorer.RoutedModel(base_for(library, options.base), library)
        if options.router == FINETUNE:
            _tell_adapter(options, learn(routed, tasks[0], options.output, **settings, watch=_watch(options)))
        else:
            _tell_learned(options, _learned(options, learn, routed, tasks, settings))


def learner(key: str) -> Callable[..., Any]:
    """The function that learns for one router."""
    from explorer.learning.centroids import learn_centroids
    from explorer.learning.finetuning import finetune
    from explorer.learning.gates import learn_gates
    from explorer.learning.layer_mixture import learn_mixture
    from explorer.learning.lorahub import learn_lorahub
    from explorer.learning.task_predictor import learn_predictor

    learners: dict[str, Callable[..., Any]] = {
        "centroid": learn_centroids,
        "predictor": learn_predictor,
        "phatgoose": learn_gates,
        "lorahub": learn_lorahub,
        "mixture": learn_mixture,
        FINETUNE: finetune,
    }
    return learners[key]


def _check_target(options: Options) -> None:
    if options.router in OF_ONE_TASK and not options.target:
        raise SettingsError(f"--router {options.router}", "learns for one task", fix="Name it with --target TASK.")
    if options.router in OF_EVERY_ADAPTER and options.target:
        raise SettingsError("--target", f"is no setting of {options.router}, which learns of every adapter's own task")


def _settings(options: Options, learn: Callable[..., Any]) -> dict[str, Any]:
    """What was given on the command line, for a function that takes all of it.

    Raises:
        SettingsError: it does not.
    """
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    known = inspect.signature(learn).parameters
    for name in given:
        if name not in known:
            raise SettingsError(f"--{name.replace('_', '-')}", f"is no setting of {options.router}")
    return {**given, "chat": not options.plain}


def _check_place(options: Options, tasks: tuple[Task, ...]) -> None:
    """Refuse a place that is taken, and a task without rows to learn from, before the base model is loaded."""
    from explorer.exporting.whole_folder import check_folder
    from explorer.learning.examples import few_shot_part
    from explorer.learning.finetuning import free_folder

    if options.router == FINETUNE:
        free_folder(options.output, options.target)
    else:
        check_folder(options.output)
    if options.target:
        few_shot_part(tasks[0])


def _learned(
    options: Options,
    learn: Callable[..., Learned],
    routed: RoutedModel,
    tasks: tuple[Task, ...],
    settings: Mapping[str, Any],
) -> Learned:
    """Learn and write it down."""
    from explorer.learning.store import save_learned

    learned = learn(routed, tasks[0] if options.target else tasks, **settings, watch=_watch(options))
    save_learned(learned, options.output)
    return learned


def _watch(options: Options) -> Watch:
    """Progress in some lines."""
    from explorer.learning.progress import Watch

    told = [-1]

    def report(done: int, total: int, note: str) -> None:
        if done * LINES // total > told[0]:
            told[0] = done * LINES // total
            print(printable(f"{options.router}: {done}/{total}, {note}"), file=sys.stderr, flush=True)

    return Watch(report)


def _tell_learned(options: Options, learned: Learned) -> None:
    facts = learned.facts
    if options.json:
        say_json({"router": learned.key, "output": str(options.output), **asdict(facts)})
        return
    say(f"{learned.label}: {len(facts.names)} adapters")
    if facts.left_out:
        say(f"Without examples, so never chosen: {', '.join(facts.left_out)}")
    for name, value in facts.results.items():
        say(f"{name.replace('_', ' ')}: {value:.4f}")
    say(f"Written to {options.output}. Use it with --learned {options.output}")


def _tell_adapter(options: Options, card: Mapping[str, Any]) -> None:
    if options.json:
        say_json({"output": str(options.output / options.target), **card})
        return
    losses = f"base {card['loss_of_base']:.4f}, at the start {card['loss_before']:.4f}, after {card['loss_after']:.4f}"
    say(f"{options.target}: loss on the {card['train_rows']} examples: {losses}")
    say(f"Written to {options.output / options.target}, a PEFT adapter")


COMMAND = Command("learn", "let a router learn from examples", add_options, run)
