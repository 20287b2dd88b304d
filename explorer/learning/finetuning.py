"""Plain LoRA fine-tuning on a few examples of one task, from a mixture of the library: a PEFT adapter comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explorer.errors import BaseModelError, LearningError
from explorer.learning.examples import few_shot
from explorer.learning.learned import adapters_hash
from explorer.learning.mixing import mean_loss, nothing
from explorer.learning.progress import SILENT, Watch
from explorer.learning.starting_point import StartingPoint, put_in, start_from
from explorer.models.base import BaseModel
from explorer.models.routed_model import RoutedModel
from explorer.models.shapes import linear_shapes
from explorer.tasks.task import Task
from explorer.training.batches import Encoded
from explorer.training.cards import base_facts, card_of
from explorer.training.checkpoint import Checkpoint, checkpoint_path
from explorer.training.fresh_adapter import mean_loss as adapter_loss
from explorer.training.fresh_adapter import take_off, with_fresh_adapter
from explorer.training.optimising import Course, optimise
from explorer.training.recipe import Recipe
from explorer.training.saving import save_adapter
from explorer.training.trainer import make_output
from explorer.training.training_set import Rows, TrainingSet

ALPHA_BY_RANK = 4.0  # the sample library's scale


def finetune(
    routed: RoutedModel,
    target: Task,
    output: Path,
    *,
    start: str = "arrow",
    examples: int = 16,
    steps: int = 50,
    rank: int = 0,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    max_tokens: int = 512,
    chat: bool = True,
    seed: int = 0,
    watch: Watch = SILENT,
) -> dict[str, Any]:
    """Train an adapter on a few examples of `target` into `output/<task>/`, and return its card.

    It starts from the library: the mean of all updates ("uniform"), or their mean by Arrow's weights on the examples'
    prompts ("arrow"), at each module, cut to `rank` by its singular values; or from nothing ("scratch"). Then the
    training of `train` runs on it, over all modules that any adapter has. A folder of such adapters is a library,
    named by the tasks.

    Args:
        routed: a base model with a library, not held by a `with` block.
        target: the task; its validation rows, else its training rows, give the examples.
        output: made if need be.
        start: "arrow", "uniform" or "scratch".
        examples: how many.
        steps: at least so many: whole passes over the examples are taken.
        rank: of the adapter; 0 for the library's largest.
        batch_size: rows a step.
        learning_rate: of AdamW, at its peak.
        max_tokens: longer rows are left out.
        chat: put the prompts into the chat template.
        seed: of the choice and order of rows.
        watch: progress and stop.

    Raises:
        LearningError: the task has no such rows, or its folder is there already.
        LearningStopped: `watch` said so; nothing is left behind.
        SettingsError: a setting is out of its bounds, or the loss stopped being a number.
        TaskDataError: the output folder cannot be used.
        BaseModelError: a library is kept attached to the base model.
    """
    folder = free_folder(output, target.name)
    if routed.base.holders:
        raise BaseModelError(
            routed.base.name, "has a library attached by a `with` block", fix="Leave that block first."
        )
    rows = few_shot(routed.base, target, examples, chat=chat, seed=seed, longest=max_tokens)
    rank = rank or max(max(adapter.ranks) for adapter in routed.library.routable)
    recipe = Recipe(
        rank=rank,
        alpha=ALPHA_BY_RANK * rank,
        target_modules=module_names(routed.base, routed.sites),
        learning_rate=learning_rate,
        batch_size=batch_size,
        epochs=math.ceil(steps / math.ceil(len(rows) / batch_size)),
        max_tokens=max_tokens,
        chat=chat,
        seed=seed,
    )
    make_output(output)
    point = start_from(routed, start, [row.ids[: row.prompt_length] for row in rows], recipe.rank)
    facts = {
        "method": "finetune",
        "start": start,
        "start_energy_kept": round(point.kept, 6),
        "library_hash": adapters_hash(routed.library),
        "loss_of_base": round(mean_loss(routed, rows, nothing, batch_size), 4),
    }
    return _trained(routed.base, target, rows, recipe, point, facts, folder, watch)


def free_folder(output: Path, task: str) -> Path:
    """Where a task's adapter goes.

    Raises:
        LearningError: something is there.
    """
    folder = output / task
    if folder.exists():
        raise LearningError(str(folder), "is there already", fix="Remove it, or choose another output folder.")
    return folder


def _trained(
    base: BaseModel,
    target: Task,
    rows: list[Encoded],
    recipe: Recipe,
    point: StartingPoint,
    facts: dict[str, Any],
    folder: Path,
    watch: Watch,
) -> dict[str, Any]:
    """Train from the starting point, as `train` does; the card of the finished folder."""
    course = Course.of(target.name, rows, recipe)
    never = Checkpoint(checkpoint_path(folder), {}, math.inf)
    with base.lock:
        model = with_fresh_adapter(base, recipe)
        try:
            put_in(model, point)
            before = adapter_loss(model, rows, base, recipe)
            watch.step(0, len(course.batches), target.name)
            for event in optimise(model, base, course, never, before):
                watch.step(event.step, event.steps, target.name)
            after = adapter_loss(model, rows, base, recipe)
            split = f"few-shot {'validation' if target.validation else 'train'}"
            chosen, judged = TrainingSet(target.name, (target,)), Rows(rows, rows, split, (len(rows),))
            known = base_facts(base.name, base.content_id)
            card = card_of(chosen, known, recipe, judged, len(course.batches), (before, after)) | facts
            card = save_adapter(model, target.name, card, folder)
        finally:
            take_off(model, base)
    return card


def module_names(base: BaseModel, sites: Sequence[str]) -> tuple[str, ...]:
    """The sites by the ends of their names, where these name no other linear module; else in full."""
    ends = tuple(dict.fromkeys(site.rpartition(".")[2] for site in sites))
    named = {site for site in linear_shapes(base.model) if site.rpartition(".")[2] in ends}
    return ends if named == set(sites) else tuple(sites)
