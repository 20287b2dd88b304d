"""`python -m explorer`: the page, and the same work as commands."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from explorer.errors import ExplorerError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 with one sentence on stderr when the input was bad."""
    parser = argparse.ArgumentParser(prog="python -m explorer")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train one private LoRA adapter per task")
    train.add_argument("tasks", type=Path)
    train.add_argument("--output", type=Path, required=True)
    train.add_argument("--base", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    train.add_argument("--only", default="")
    train.add_argument("--max-rows", type=int, default=1200)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--mixed-precision", action="store_true")
    options = parser.parse_args(arguments)
    try:
        return _train(options)
    except ExplorerError as error:
        print(error.sentence, file=sys.stderr)
        return 2


def _train(options: argparse.Namespace) -> int:
    from explorer.models.base import load_base_model
    from explorer.training.private import AdapterTrained, StepDone, train_private
    from explorer.training.recipe import Recipe
    from explorer.training.tasks import read_tasks

    tasks = read_tasks(options.tasks, tuple(filter(None, options.only.split(","))))
    recipe = Recipe(max_rows=options.max_rows, seed=options.seed, mixed_precision=options.mixed_precision)
    base = load_base_model(options.base, report=lambda line: print(line, file=sys.stderr))
    for event in train_private(base, tasks, recipe, options.output):
        if isinstance(event, StepDone):
            if event.step % 10 == 0 or event.step == event.steps:
                print(
                    f"{event.task}: step {event.step}/{event.steps}, loss {event.loss:.3f}, {event.seconds_left:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )
        elif isinstance(event, AdapterTrained):
            print(f"{event.task}: {event.card['loss_before']} -> {event.card['loss_after']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
