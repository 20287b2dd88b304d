"""`train TASKS --output DIR`: one private LoRA adapter per task, resumable after a kill."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from explorer.commands.command import Command, Options, Parser, path, text
from explorer.commands.names import listed
from explorer.commands.terminal import printable, report, say, say_json
from explorer.errors import ExplorerError
from explorer.training.recipe import Recipe

if TYPE_CHECKING:
    from explorer.models.base import BaseModel

RECIPE_OPTIONS = {  # field of the recipe -> (type, help)
    "max_rows": (int, "training rows used of each task"),
    "rank": (int, "rank of the adapters"),
    "alpha": (float, "scale of the update is alpha / rank"),
    "epochs": (int, "passes over the rows"),
    "batch_size": (int, "rows a step"),
    "learning_rate": (float, "of AdamW, at its peak"),
    "seed": (int, "of the initial A, the same for all adapters, and of the order of rows"),
}
STEPS_BETWEEN_LINES = 10


def add_options(parser: Parser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "tasks", metavar="TASKS", type=path, help="folder of .jsonl files: task, family, prompt, target"
    )
    parser.add_argument("--output", metavar="DIR", type=path, required=True, help="folder that takes the adapters")
    parser.add_argument(
        "--base", metavar="MODEL", type=text, default="HuggingFaceTB/SmolLM2-135M-Instruct", help="base model"
    )
    parser.add_argument("--only", metavar="TASK,TASK", default="", help="train these tasks, in this order")
    for field, (kind, what) in RECIPE_OPTIONS.items():
        default = getattr(Recipe(), field)
        parser.add_argument(f"--{field.replace('_', '-')}", metavar="N", type=kind, help=f"{what} ({default})")
    parser.add_argument("--target-modules", metavar="NAME,NAME", default="", help="modules adapted (q k v o of Llama)")
    parser.add_argument("--plain", action="store_true", help="no chat template: the prompts as they stand")
    parser.add_argument("--mixed-precision", action="store_true", help="bfloat16 arithmetic, float32 weights")
    parser.add_argument("--json", action="store_true", help="print the cards of all adapters as JSON at the end")


def run(options: Options) -> None:
    """Train what is not there yet; progress on stderr, one line per finished adapter on stdout."""
    recipe = recipe_from(options)
    from explorer.tasks.folder import read_tasks

    tasks = read_tasks(options.tasks, listed(options.only))
    from explorer.training.events import AdapterSkipped, AdapterTrained, StepDone
    from explorer.training.private import train_private

    base = _base_for(options, recipe)
    cards: list[object] = []
    skipped: list[str] = []
    for event in train_private(base, tasks, recipe, options.output):
        match event:
            case StepDone(step=step, steps=steps) if step % STEPS_BETWEEN_LINES == 0 or step == steps:
                line = f"{event.name}: step {step}/{steps}, loss {event.loss:.3f}, {event.seconds_left:.0f} s left"
                print(printable(line), file=sys.stderr, flush=True)
            case AdapterSkipped(name=task):
                skipped.append(task)
                _tell(options, f"{task}: is there already")
            case AdapterTrained(name=task, card=card):
                cards.append(card)
                _tell(options, f"{task}: loss {card['loss_before']:.3f} -> {card['loss_after']:.3f}")
    if options.json:
        say_json({"output": str(options.output), "trained": cards, "skipped": skipped})


def _base_for(options: Options, recipe: Recipe) -> BaseModel:
    """Load the base model, once it is certain that there is a place for its adapters; without one no place is made."""
    from explorer.models.base import load_base_model
    from explorer.training.fresh_adapter import check_targets
    from explorer.training.trainer import make_output

    made = not options.output.exists()
    make_output(options.output)
    try:
        base = load_base_model(options.base, report=report)
        check_targets(base, recipe)
        return base
    except ExplorerError:
        if made:
            options.output.rmdir()
        raise


def recipe_from(options: Options) -> Recipe:
    """The recipe with what was given on the command line in place of its defaults.

    Raises:
        SettingsError: a number is out of its bounds.
    """
    given = {field: getattr(options, field) for field in RECIPE_OPTIONS if getattr(options, field) is not None}
    if options.target_modules:
        given["target_modules"] = listed(options.target_modules)
    return Recipe(chat=not options.plain, mixed_precision=options.mixed_precision, **given)


def _tell(options: Options, line: str) -> None:
    if not options.json:
        say(line)
        sys.stdout.flush()


COMMAND = Command("train", "train one private LoRA adapter per task", add_options, run)
