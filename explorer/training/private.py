"""One private LoRA adapter per task: the library of the paper's section 3 before any clustering.

`train_private` yields events and leaves one finished folder per task. A run killed at any moment is repeated with the
same command: it skips what is complete, goes on from the last checkpoint, and ends with the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from explorer.models.base import BaseModel
from explorer.tasks.task import Task
from explorer.training.cards import base_facts, is_done
from explorer.training.checkpoint import removed
from explorer.training.events import AdapterSkipped, TrainingEvent
from explorer.training.folder_lock import folder_lock
from explorer.training.fresh_adapter import check_targets
from explorer.training.recipe import Recipe
from explorer.training.trainer import CHECKPOINT_SECONDS, Job, make_output, train
from explorer.training.training_set import TrainingSet


def train_private(
    base: BaseModel,
    tasks: Sequence[Task],
    recipe: Recipe,
    output: Path,
    *,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Iterator[TrainingEvent]:
    """Train one adapter per task into `output/<task>/`, skipping those already there.

    Raises:
        TaskDataError: a task has no usable training row, or `output` cannot be a folder, or holds an adapter of another
            recipe, base model or data.
        BaseModelError: the recipe's modules are not in the base model.
        SettingsError: the loss stopped being a number, or `output` is being built.
    """
    make_output(output)
    check_targets(base, recipe)
    with folder_lock(output, alone=False):  # several may train different tasks here at once
        todo = []
        for task in tasks:
            job = Job(TrainingSet(task.name, (task,)), recipe, output, checkpoint_seconds)
            if is_done(job.folder, job.chosen, base_facts(base.name, base.content_id), recipe):
                removed(job.folder)
                yield AdapterSkipped(task.name)
            else:
                todo.append(job)
        for job in todo:
            yield from train(base, job)
