"""The steps: AdamW, linear warm-up and decay, gradient clipping, from a checkpoint where there is one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from explorer.errors import SettingsError
from explorer.models.base import BaseModel
from explorer.training.batches import Encoded, answer_losses, batch_of, batch_order
from explorer.training.checkpoint import Checkpoint, State, Weights
from explorer.training.events import StepDone
from explorer.training.recipe import Recipe


@dataclass(frozen=True)
class Course:
    """One training from its first step to its last: whose, on which rows, in which batches."""

    name: str
    rows: Sequence[Encoded]
    batches: Sequence[Sequence[int]]
    recipe: Recipe

    @staticmethod
    def of(name: str, rows: Sequence[Encoded], recipe: Recipe) -> Course:
        """Every epoch in an order of its own, which follows from the recipe's seed."""
        lengths = [len(row.ids) for row in rows]
        orders = (batch_order(lengths, recipe.batch_size, recipe.seed + epoch) for epoch in range(recipe.epochs))
        return Course(name, rows, [batch for order in orders for batch in order], recipe)


def optimise(
    model: Any, base: BaseModel, course: Course, checkpoint: Checkpoint, loss_before: float, state: State | None = None
) -> Iterator[StepDone]:
    """Take the steps that are left after `state`, or all.

    Raises:
        SettingsError: the loss stopped being a number.
    """
    recipe = course.recipe
    weights = trainable(model)
    optimiser = torch.optim.AdamW(weights.values(), lr=recipe.learning_rate, weight_decay=0.0)
    total = len(course.batches)
    # a rise begins at zero: an only step would change nothing
    warmup = math.ceil(recipe.warmup_fraction * total) if total > 1 else 0
    schedule = transformers.get_linear_schedule_with_warmup(optimiser, warmup, total)
    done = 0 if state is None else _restored(state, weights, optimiser, schedule)
    model.train()
    started = time.monotonic()
    for step, indices in enumerate(course.batches[done:], start=done + 1):
        batch = batch_of([course.rows[index] for index in indices], base)
        with torch.autocast(base.device.type, dtype=torch.bfloat16, enabled=recipe.mixed_precision):
            loss = answer_losses(model, batch).mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SettingsError(course.name, f"training went astray at step {step}", fix="Lower the learning rate.")
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights.values(), recipe.gradient_clip)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        if checkpoint.due():
            checkpoint.write(weights, optimiser, step, loss_before)
        pace = (time.monotonic() - started) / (step - done)
        yield StepDone(course.name, step, total, value, pace * (total - step))


def trainable(model: Any) -> Weights:
    """The weights that are trained, by their names."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _restored(state: State, weights: Weights, optimiser: torch.optim.Optimizer, schedule: Any) -> int:
    """How many steps were taken before; everything is set to where they led."""
    state.put_in(weights, optimiser)
    # the learning rate is a function of the step alone: the schedule is put there without taking the steps
    schedule.last_epoch = state.step
    for group, peak, factor in zip(optimiser.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = peak * factor(state.step)
    return state.step
