"""One adapter from its rows to its folder, resumable at any step.

The folder appears only when it is complete (written beside and renamed); until then a checkpoint lies beside its place.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from explorer.errors import TaskDataError
from explorer.models.base import BaseModel
from explorer.training.cards import base_facts, card_of, is_done, read_card, versions
from explorer.training.checkpoint import Checkpoint, checkpoint_path, identity_of, removed
from explorer.training.events import AdapterTrained, StepDone
from explorer.training.fresh_adapter import mean_loss, take_off, with_fresh_adapter
from explorer.training.optimising import Course, optimise, trainable
from explorer.training.recipe import Recipe
from explorer.training.saving import save_adapter
from explorer.training.training_set import TrainingSet, encoded_rows

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Job:
    """One adapter to train: on what, how, and into which folder's `<name>/`.

    `checkpoint_seconds` may pass between two checkpoints; 0 writes one after every step.
    """

    chosen: TrainingSet
    recipe: Recipe
    output: Path
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    @property
    def folder(self) -> Path:
        """Where the adapter goes."""
        return self.output / self.chosen.name


def train(base: BaseModel, job: Job) -> Iterator[StepDone | AdapterTrained]:
    """Train one adapter, from its checkpoint where there is one.

    Raises:
        TaskDataError: a task has no training row that fits.
        BaseModelError: the recipe's modules are not in the base model.
        SettingsError: the loss stopped being a number, or the weights left the range of float16.
    """
    recipe, name, known = job.recipe, job.chosen.name, base_facts(base.name, base.content_id)
    if is_done(job.folder, job.chosen, known, recipe):  # by a worker that was lost just after
        removed(job.folder)
        yield AdapterTrained(name, job.folder, read_card(job.folder) or {})
        return
    rows = encoded_rows(job.chosen, base.tokenizer, recipe, base.max_tokens)
    course = Course.of(name, rows.train, recipe)
    identity = identity_of(name, known, job.chosen.data_hash, recipe.as_dict(), versions())
    checkpoint = Checkpoint(checkpoint_path(job.folder), identity, job.checkpoint_seconds)
    model = with_fresh_adapter(base, recipe)
    try:
        state = checkpoint.state(trainable(model), len(course.batches))
        before = mean_loss(model, rows.judged, base, recipe) if state is None else state.loss_before
        yield from optimise(model, base, course, checkpoint, before, state)
        after = mean_loss(model, rows.judged, base, recipe)
        card = card_of(job.chosen, known, recipe, rows, len(course.batches), (before, after))
        card = save_adapter(model, name, card, job.folder)
    finally:
        take_off(model, base)
    checkpoint.remove()
    yield AdapterTrained(name, job.folder, card)


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
