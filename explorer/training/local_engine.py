"""Training on this machine: in this process, one adapter after another."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import final

from explorer.models.base import BaseModel
from explorer.training.engine import Engine
from explorer.training.events import AdapterTrained, StepDone
from explorer.training.fresh_adapter import check_targets
from explorer.training.trainer import Job, train


@final
class LocalEngine(Engine):
    """One adapter after another in this process.

    Args:
        load: gives the base model; called once, and only if there is something to train.
    """

    def __init__(self, load: Callable[[], BaseModel]) -> None:
        self._load = load
        self._base: BaseModel | None = None

    def run(self, jobs: Sequence[Job]) -> Generator[StepDone | AdapterTrained]:
        """Train the jobs in order."""
        for job in jobs:
            self._base = self._base or self._load()
            check_targets(self._base, job.recipe)
            yield from train(self._base, job)

    def close(self) -> None:
        """Let go of the base model."""
        self._base = None
