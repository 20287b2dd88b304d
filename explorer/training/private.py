"""One private LoRA adapter per task: the library of the paper's section 3 before any clustering.

`train_private` yields events and leaves one finished folder per task. A folder appears only when it is complete
(written beside and renamed), so a run killed at any moment is repeated with the same command and goes on with the
first task that has no folder; the repeated task starts from the same seed and ends with the same weights.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from explorer.errors import BaseModelError, SettingsError, TaskDataError
from explorer.models.base import BaseModel
from explorer.models.shapes import linear_shapes
from explorer.tasks.task import Task
from explorer.training.batches import Encoded, answer_losses, batch_order, collate, encode
from explorer.training.recipe import Recipe
from explorer.training.saving import CARD, save_adapter

EVALUATED_ROWS = 48


@dataclass(frozen=True)
class AdapterSkipped:
    """The folder of this task is already there, made by the same recipe from the same data."""

    task: str


@dataclass(frozen=True)
class StepDone:
    """One optimiser step."""

    task: str
    step: int
    steps: int
    loss: float
    seconds_left: float


@dataclass(frozen=True)
class AdapterTrained:
    """One adapter is complete on disk. `card` is what its card.json holds."""

    task: str
    folder: Path
    card: dict[str, Any]


TrainingEvent = AdapterSkipped | StepDone | AdapterTrained


def train_private(base: BaseModel, tasks: Sequence[Task], recipe: Recipe, output: Path) -> Iterator[TrainingEvent]:
    """Train one adapter per task into `output/<task>/`, skipping those already there.

    Raises:
        TaskDataError: a task has no usable training row, or `output` cannot be a folder, or holds an adapter of another
            recipe, base model or data.
        BaseModelError: the recipe's modules are not in the base model.
        SettingsError: the loss stopped being a number.
    """
    make_output(output)
    check_targets(base, recipe)
    todo = [task for task in tasks if not _is_done(output / task.name, task, base, recipe)]
    for task in tasks:
        if task not in todo:
            yield AdapterSkipped(task.name)
    for task in todo:
        yield from _train_one(base, task, recipe, output)


def make_output(output: Path) -> None:
    """Make the folder that takes the adapters, and see that files can be put there.

    Raises:
        TaskDataError: they cannot.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise TaskDataError(str(output), "cannot be used as output folder", fix="Choose another one.") from error


def check_targets(base: BaseModel, recipe: Recipe) -> None:
    """See that each of the recipe's modules is there, and linear (PEFT would leave out the others without a word).

    Raises:
        BaseModelError: some are not.
    """
    sites = linear_shapes(base.model)
    absent = [name for name in recipe.target_modules if not any(f".{site}".endswith(f".{name}") for site in sites)]
    if absent:
        raise _no_linear(base, absent)


def _no_linear(base: BaseModel, names: Sequence[str]) -> BaseModelError:
    return BaseModelError(
        base.name,
        f"has no linear modules called {', '.join(names)}",
        fix="Name its own modules as target modules.",
    )


def _is_done(folder: Path, task: Task, base: BaseModel, recipe: Recipe) -> bool:
    if not folder.exists():
        return False
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        same = (card["data_sha256"], card["recipe"], card["base_model"]) == (
            task.data_hash,
            recipe.as_dict(),
            base.name,
        )
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise TaskDataError(
            str(folder),
            "is there already, but comes from another recipe, base model or data",
            fix="Remove it, or choose another output folder.",
        )
    return True


def _train_one(base: BaseModel, task: Task, recipe: Recipe, output: Path) -> Iterator[TrainingEvent]:
    max_tokens = min(recipe.max_tokens, base.max_tokens)
    rows = encode(base.tokenizer, task.train[: recipe.max_rows], chat=recipe.chat, max_tokens=max_tokens)
    if not rows:
        raise TaskDataError(
            task.name, "has no training row that fits", fix=f"Give rows of at most {max_tokens} tokens."
        )
    held_out = encode(base.tokenizer, task.test[:EVALUATED_ROWS], chat=recipe.chat, max_tokens=max_tokens)
    model = with_fresh_adapter(base, recipe)
    try:
        judged = held_out or rows[:EVALUATED_ROWS]
        before = mean_loss(model, judged, base, recipe)
        started = time.monotonic()
        steps = 0
        for event in _optimise(model, rows, base, recipe, task.name):
            steps = event.steps
            yield event
        seconds = time.monotonic() - started
        card = {
            "task": task.name,
            "family": task.family,
            "base_model": base.name,
            "data_sha256": task.data_hash,
            "train_rows": len(rows),
            "steps": steps,
            "loss_before": round(before, 4),
            "loss_after": round(mean_loss(model, judged, base, recipe), 4),
            "loss_rows": len(judged),
            "loss_split": "test" if held_out else "train",
            "seconds": round(seconds, 1),
            "recipe": recipe.as_dict(),
            "versions": {
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "peft": peft.__version__,
            },
        }
        folder = save_adapter(model, card, output / task.name)
    finally:
        _take_off(model, base)
    yield AdapterTrained(task.name, folder, card)


def with_fresh_adapter(base: BaseModel, recipe: Recipe) -> Any:
    """The base model inside a PEFT model whose A follows from the recipe's seed alone and whose B is zero.

    Raises:
        BaseModelError: the base model has no module of the recipe's names.
    """
    torch.manual_seed(recipe.seed)  # right before the adapter is made: this is what gives all tasks the same A
    try:
        return peft.get_peft_model(base.model, lora_config(recipe, base.name))
    except ValueError as error:
        raise _no_linear(base, recipe.target_modules) from error


def _take_off(model: Any, base: BaseModel) -> None:
    """Leave the base model as it was, evaluation mode included."""
    model.unload()
    base.model.eval()


def lora_config(recipe: Recipe, base_name: str) -> peft.LoraConfig:
    """The recipe in PEFT's words."""
    return peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=list(recipe.target_modules),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
    )


def _optimise(model: Any, rows: list[Encoded], base: BaseModel, recipe: Recipe, task: str) -> Iterator[StepDone]:
    """AdamW, linear warm-up and decay, gradient clipping; a loss that is no number ends the run."""
    lengths = [len(row.ids) for row in rows]
    batches = [
        batch
        for epoch in range(recipe.epochs)
        for batch in batch_order(lengths, recipe.batch_size, recipe.seed + epoch)
    ]
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
    warmup = math.ceil(recipe.warmup_fraction * len(batches))
    schedule = transformers.get_linear_schedule_with_warmup(optimiser, warmup, len(batches))
    model.train()
    started = time.monotonic()
    for step, indices in enumerate(batches, start=1):
        batch = collate([rows[index] for index in indices], base.tokenizer.pad_token_id or 0, base.device)
        with torch.autocast(base.device.type, dtype=torch.bfloat16, enabled=recipe.mixed_precision):
            loss = answer_losses(model, batch).mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SettingsError(task, f"training went astray at step {step}", fix="Lower the learning rate.")
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, recipe.gradient_clip)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        pace = (time.monotonic() - started) / step
        yield StepDone(task, step, len(batches), value, pace * (len(batches) - step))


@torch.no_grad()
def mean_loss(model: Any, rows: Sequence[Encoded], base: BaseModel, recipe: Recipe) -> float:
    """Mean over `rows` of the answer's loss in nats per token (full precision)."""
    model.eval()
    ordered = sorted(rows, key=lambda row: len(row.ids))
    total = 0.0
    for first in range(0, len(ordered), recipe.batch_size):
        part = ordered[first : first + recipe.batch_size]
        total += float(answer_losses(model, collate(part, base.tokenizer.pad_token_id or 0, base.device)).sum())
    return total / len(ordered)
