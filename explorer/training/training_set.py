"""What one adapter is trained on: one task (a private adapter), the tasks of a cluster, or all tasks (shared)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from explorer.errors import TaskDataError
from explorer.tasks.task import Example, Task
from explorer.training.batches import Encoded, encode
from explorer.training.recipe import Recipe

EVALUATED_ROWS = 48
LEAST_OF_A_TASK = 8  # rows judged of each task, however many tasks there are
MIXED = "mixed"


@dataclass(frozen=True)
class TrainingSet:
    """Tasks that one adapter learns together; `name` becomes its folder's name."""

    name: str
    tasks: tuple[Task, ...]

    @property
    def data_hash(self) -> str:
        """That of the only task, or SHA-256 over names and hashes of all tasks in their order."""
        if len(self.tasks) == 1:
            return self.tasks[0].data_hash
        text = json.dumps([[task.name, task.data_hash] for task in self.tasks])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def family(self) -> str:
        """The family of all tasks, or "mixed"."""
        families = {task.family for task in self.tasks}
        return families.pop() if len(families) == 1 else MIXED


@dataclass(frozen=True)
class Rows:
    """Encoded rows: those to train on, and those by which the adapter is judged (`split` says of which part)."""

    train: list[Encoded]
    judged: list[Encoded]
    split: str
    of_task: tuple[int, ...]


def encoded_rows(chosen: TrainingSet, tokenizer: Any, recipe: Recipe, longest: int) -> Rows:
    """Each task's first `recipe.max_rows` training rows that fit, one task after another.

    Args:
        chosen: the tasks.
        tokenizer: of the base model.
        recipe: says how many rows of a task, and how long they may be.
        longest: tokens that the base model has positions for.

    Raises:
        TaskDataError: a task has no training row that fits.
    """
    limit = min(recipe.max_tokens, longest)

    def fitting(examples: Sequence[Example]) -> list[Encoded]:
        return encode(tokenizer, examples, chat=recipe.chat, max_tokens=limit)

    parts = [fitting(task.train[: recipe.max_rows]) for task in chosen.tasks]
    for task, part in zip(chosen.tasks, parts, strict=True):
        if not part:
            raise TaskDataError(task.name, "has no training row that fits", fix=f"Give rows of at most {limit} tokens.")
    share = max(LEAST_OF_A_TASK, EVALUATED_ROWS // len(parts)) if len(parts) > 1 else EVALUATED_ROWS
    held_out = [row for task in chosen.tasks for row in fitting(task.test[:share])]
    judged = held_out or [row for part in parts for row in part[:share]]
    return Rows(
        train=[row for part in parts for row in part],
        judged=judged,
        split="test" if held_out else "train",
        of_task=tuple(len(part) for part in parts),
    )
