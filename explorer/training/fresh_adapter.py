"""The base model with an adapter to train: put on from a seed, taken off without a trace, judged by its loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import peft
import torch

from explorer.errors import BaseModelError
from explorer.models.base import BaseModel, find_base_model
from explorer.models.bundled import Report
from explorer.models.shapes import known_shapes, linear_shapes
from explorer.training.batches import Encoded, answer_losses, batch_of
from explorer.training.recipe import Recipe


def check_targets(base: BaseModel, recipe: Recipe) -> None:
    """See that each of the recipe's modules is there, and linear (PEFT would leave out the others without a word).

    Raises:
        BaseModelError: some are not.
    """
    _check(base.name, linear_shapes(base.model), recipe)


def check_base(name: str, recipe: Recipe, report: Report) -> None:
    """See that the base model can be had and has the recipe's modules, without loading it.

    Raises:
        BaseModelError: it cannot, or has not.
    """
    find_base_model(name, report=report)
    shapes = known_shapes(name)
    if shapes is not None:
        _check(name, shapes, recipe)


def _check(name: str, sites: Iterable[str], recipe: Recipe) -> None:
    known = [f".{site}" for site in sites]
    absent = [module for module in recipe.target_modules if not any(site.endswith(f".{module}") for site in known)]
    if absent:
        raise _no_linear(name, absent)


def _no_linear(base: str, names: Sequence[str]) -> BaseModelError:
    return BaseModelError(
        base,
        f"has no linear modules called {', '.join(names)}",
        fix="Name its own modules as target modules.",
    )


def with_fresh_adapter(base: BaseModel, recipe: Recipe) -> Any:
    """The base model inside a PEFT model whose A follows from the recipe's seed alone and whose B is zero.

    Raises:
        BaseModelError: the base model has no module of the recipe's names.
    """
    torch.manual_seed(recipe.seed)  # right before the adapter is made: this is what gives all tasks the same A
    try:
        return peft.get_peft_model(base.model, lora_config(recipe, base.name))
    except ValueError as error:
        raise _no_linear(base.name, recipe.target_modules) from error


def take_off(model: Any, base: BaseModel) -> None:
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


@torch.no_grad()
def mean_loss(model: Any, rows: Sequence[Encoded], base: BaseModel, recipe: Recipe) -> float:
    """Mean over `rows` of the answer's loss in nats per token (full precision)."""
    model.eval()
    ordered = sorted(rows, key=lambda row: len(row.ids))
    total = 0.0
    for first in range(0, len(ordered), recipe.batch_size):
        part = ordered[first : first + recipe.batch_size]
        total += float(answer_losses(model, batch_of(part, base)).sum())
    return total / len(ordered)
