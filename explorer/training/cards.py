"""An adapter's card: what it was trained on and how, and whether a finished folder is the adapter that is wanted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import peft
import torch
import transformers

from explorer.adapters.factors import WEIGHTS
from explorer.errors import TaskDataError
from explorer.training.recipe import Recipe
from explorer.training.training_set import Rows, TrainingSet

CARD = "card.json"
MAX_BYTES = 8 << 20
RESULTS = ("train_rows", "steps", "loss_before", "loss_after", "loss_rows", "loss_split")


def versions() -> dict[str, str]:
    """The libraries that the weights depend on."""
    modules = (torch, transformers, peft, numpy)
    return {module.__name__: str(module.__version__) for module in modules}


def card_of(
    chosen: TrainingSet, base_name: str, recipe: Recipe, rows: Rows, steps: int, losses: tuple[float, float]
) -> dict[str, Any]:
    """The card: nothing in it depends on when or how fast the adapter was trained."""
    return {
        "task": ", ".join(task.name for task in chosen.tasks),
        "family": chosen.family,
        "tasks": [
            {"name": task.name, "family": task.family, "data_sha256": task.data_hash, "train_rows": count}
            for task, count in zip(chosen.tasks, rows.of_task, strict=True)
        ],
        "base_model": base_name,
        "data_sha256": chosen.data_hash,
        "train_rows": len(rows.train),
        "steps": steps,
        "loss_before": round(losses[0], 4),
        "loss_after": round(losses[1], 4),
        "loss_rows": len(rows.judged),
        "loss_split": rows.split,
        "recipe": recipe.as_dict(),
        "versions": versions(),
    }


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card in `folder`; None where there is none that can be read."""
    try:
        path = folder / CARD
        if path.stat().st_size > MAX_BYTES:
            return None
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return card if isinstance(card, dict) else None


def is_done(folder: Path, chosen: TrainingSet, base_name: str, recipe: Recipe) -> bool:
    """Whether `folder` is this adapter, complete; false where there is no such folder.

    Raises:
        TaskDataError: something else is there.
    """
    if not folder.exists():
        return False
    card = read_card(folder) or {}
    wanted = {"data_sha256": chosen.data_hash, "recipe": recipe.as_dict(), "base_model": base_name}
    if not _is_complete(folder, card) or any(card.get(key) != value for key, value in wanted.items()):
        raise TaskDataError(
            str(folder),
            "is there already, but comes from another recipe, base model or data",
            fix="Remove it, or choose another output folder.",
        )
    return True


def _is_complete(folder: Path, card: Mapping[str, Any]) -> bool:
    """Whether there are weights, and a card that says how they came out."""
    numbers = [card.get(key) for key in RESULTS[:-1]]
    usable = all(isinstance(value, int | float) and math.isfinite(value) for value in numbers)
    texts = isinstance(card.get(RESULTS[-1]), str) and isinstance(card.get("versions"), dict)
    return usable and texts and (folder / WEIGHTS).is_file()
