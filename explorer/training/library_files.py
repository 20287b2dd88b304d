"""A stage's folder as a library: `library.json` for the program, `README.md` for people, `clusters.json` for both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explorer.adapters.scan import LIBRARY_FILE
from explorer.training.plan import PRIVATE, STAGES
from explorer.training.recipe import Recipe
from explorer.training.stages import Stage
from explorer.training.whole_files import write_json, write_text

CLUSTERS = "clusters.json"
Cards = Mapping[str, Mapping[str, Any]]


def write_library_files(folder: Path, stage: Stage, base_model: str, recipe: Recipe, cards: Cards) -> None:
    """Write what stands beside the adapters, from their cards alone: the same cards give the same files."""
    write_json(folder / LIBRARY_FILE, library_notes(stage, base_model, cards))
    if stage.partition is not None:
        write_json(folder / CLUSTERS, {name: list(members) for name, members in stage.partition.members.items()})
    write_text(folder / "README.md", _readme(stage, base_model, recipe, cards))


def library_notes(stage: Stage, base_model: str, cards: Cards) -> dict[str, Any]:
    """Title, description, and each adapter with its tasks and their family."""
    tasks = {task.name for chosen in stage.sets for task in chosen.tasks}
    return {
        "title": _title(stage, base_model),
        "description": f"{_sentence(stage)}: {_count(stage, len(tasks))}.",
        "adapters": {
            chosen.name: {
                "task": ", ".join(task.name for task in chosen.tasks),
                "tasks": [task.name for task in chosen.tasks],
                "family": chosen.family,
                "description": _outcome(cards[chosen.name]),
            }
            for chosen in stage.sets
        },
    }


def _title(stage: Stage, base_model: str) -> str:
    return f"{Path(base_model).name} {stage.name} library"


def _sentence(stage: Stage) -> str:
    what = STAGES[stage.name]
    return what[0].upper() + what[1:]


def _count(stage: Stage, tasks: int) -> str:
    adapters = "1 adapter" if len(stage.sets) == 1 else f"{len(stage.sets)} adapters"
    return f"{adapters}, {tasks} task{'s' * (tasks != 1)}"


def _outcome(card: Mapping[str, Any]) -> str:
    return (
        f"Loss of the answer on {card['loss_rows']} {card['loss_split']} rows: {card['loss_before']:.3f} before, "
        f"{card['loss_after']:.3f} after (nats per token)."
    )


def _readme(stage: Stage, base_model: str, recipe: Recipe, cards: Cards) -> str:
    lines = []
    for chosen in stage.sets:
        card = cards[chosen.name]
        names = ", ".join(task.name for task in chosen.tasks)
        losses = f"{card['loss_before']:.3f} | {card['loss_after']:.3f}"
        first = chosen.name if stage.name == PRIVATE else f"{chosen.name} | {names}"
        lines.append(f"| {first} | {chosen.family} | {card['train_rows']} | {card['steps']} | {losses} |")
    head = ["adapter", *([] if stage.name == PRIVATE else ["tasks"]), "family", "rows", "steps", "before", "after"]
    table = "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines])
    epochs = "1 epoch" if recipe.epochs == 1 else f"{recipe.epochs} epochs"
    return f"""---
base_model: {json.dumps(base_model)}
library_name: peft
tags: [lora]
---
# {_title(stage, base_model)}

{_sentence(stage)}. Built with `python -m explorer build`.

- LoRA of rank {recipe.rank}, alpha {recipe.alpha:g}, dropout {recipe.dropout:g}, on {", ".join(recipe.target_modules)}.
- The same initial A for all (seed {recipe.seed}).
- AdamW, learning rate {recipe.learning_rate:g}, linear warm-up over {recipe.warmup_fraction:.3g} of the steps
  and linear decay, batches of {recipe.batch_size} by length, at most {recipe.max_rows} rows of each task, {epochs}.
- Losses: of the answer alone, in nats per token, before and after, on test rows where the tasks have such.

{_clusters(stage)}{table}
"""


def _clusters(stage: Stage) -> str:
    if stage.partition is None:
        return ""
    facts = [f"{name} {value}" for name, value in stage.partition.facts.items() if isinstance(value, str | int)]
    return f"Clusters (in `{CLUSTERS}`): {', '.join(facts).replace('_', ' ')}.\n\n"
