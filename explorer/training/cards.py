"""An adapter's card: what it was trained on and how, and whether a finished folder is the adapter that is wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import peft
import torch
import transformers

from explorer.adapters.factors import WEIGHTS
from explorer.adapters.safetensors_header import read_header
from explorer.errors import AdapterFormatError, SettingsError, TaskDataError
from explorer.training.recipe import Recipe
from explorer.training.training_set import Rows, TrainingSet
from explorer.training.whole_files import sha256_of

CARD = "card.json"
MAX_BYTES = 8 << 20
MAX_NUMBER = 1e15  # of a card's counts and losses; far below what arithmetic or a line of text can take
NUMBERS = ("train_rows", "steps", "loss_before", "loss_after", "loss_rows")
RESULTS = (*NUMBERS, "loss_split")
BASE, BASE_CONTENT, WEIGHTS_HASH = "base_model", "base_content", "weights_sha256"


def versions() -> dict[str, str]:
    """The libraries that the weights depend on."""
    modules = (torch, transformers, peft, numpy)
    return {module.__name__: str(module.__version__) for module in modules}


def base_facts(name: str, content_id: str) -> dict[str, str]:
    """A base model in cards, manifests and checkpoints: its name, and its content where the name does not fix it."""
    return {BASE: name} | ({BASE_CONTENT: content_id} if content_id else {})


def is_of_base(found: Mapping[str, Any], base: Mapping[str, str]) -> bool:
    """Whether `found` (a card, or a manifest) is of this base model; one that tells no content is believed."""
    content = base.get(BASE_CONTENT, "")
    return found.get(BASE) == base[BASE] and found.get(BASE_CONTENT, content) == content


def card_of(
    chosen: TrainingSet,
    base: Mapping[str, str],
    recipe: Recipe,
    rows: Rows,
    steps: int,
    losses: tuple[float, float],
) -> dict[str, Any]:
    """The card but for the hash of the weights: nothing in it depends on when or how fast the adapter was trained.

    Raises:
        SettingsError: a loss, before or after training, is no number.
    """
    if not all(_is_number(loss) for loss in losses):
        problem = f"training went astray: the loss is {losses[0]:.3g} before and {losses[1]:.3g} after it"
        raise SettingsError(chosen.name, problem, fix="Lower the learning rate.")
    return {
        "task": ", ".join(task.name for task in chosen.tasks),
        "family": chosen.family,
        "tasks": [
            {"name": task.name, "family": task.family, "data_sha256": task.data_hash, "train_rows": count}
            for task, count in zip(chosen.tasks, rows.of_task, strict=True)
        ],
        **base,
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


def is_done(folder: Path, chosen: TrainingSet, base: Mapping[str, str], recipe: Recipe) -> bool:
    """Whether `folder` is this adapter, complete; false where there is no such folder.

    Raises:
        TaskDataError: something else is there, or the adapter is damaged.
    """
    if not folder.exists():
        return False
    card = read_card(folder)
    if card is None or not _is_whole(card):
        raise _damaged(folder, folder / CARD, "it is missing, or is not what training writes")
    wanted = {"data_sha256": chosen.data_hash, "recipe": recipe.as_dict()}
    if not is_of_base(card, base) or any(card.get(key) != value for key, value in wanted.items()):
        raise TaskDataError(
            str(folder),
            "is there already, but comes from another recipe, base model or data",
            fix="Remove it, or choose another output folder.",
        )
    _check_weights(folder, card)
    return True


def _is_whole(card: Mapping[str, Any]) -> bool:
    """Whether the card says how the weights came out."""
    numbers = all(_is_number(card.get(key)) for key in NUMBERS)
    return numbers and isinstance(card.get("loss_split"), str) and isinstance(card.get("versions"), dict)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < MAX_NUMBER  # type: ignore[operator]


def _check_weights(folder: Path, card: Mapping[str, Any]) -> None:
    """See that the weights are those that the card was written for, or at least a whole file if it does not say."""
    path = folder / WEIGHTS
    try:
        read_header(path)
    except AdapterFormatError as error:
        raise _damaged(folder, path, f"it {error.problem}") from error
    if card.get(WEIGHTS_HASH, "") not in ("", sha256_of(path)):
        raise _damaged(folder, path, f"it is not the file that {CARD} was written for")


def _damaged(folder: Path, path: Path, why: str) -> TaskDataError:
    fix = f"Remove {folder}, and the adapter is trained anew."
    return TaskDataError(str(path), f"is damaged ({why})", fix=fix)
