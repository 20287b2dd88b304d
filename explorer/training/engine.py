"""Where adapters are trained: an engine takes jobs and tells how they go.

Whichever is used, the folders are the same: exactly where the arithmetic is (same machine, same number of threads), to
within rounding elsewhere.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence

from explorer.training.events import AdapterTrained, StepDone
from explorer.training.plan import planned_steps
from explorer.training.trainer import Job

LOST_WORKERS = 3  # how often a job is given to another worker before its build ends


class Engine(ABC):
    """Runs training jobs on some machine or machines; close it at the end."""

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> Generator[StepDone | AdapterTrained]:
        """Train every job's adapter into its folder, in any order.

        Closing the iterator stops what is under way; what is complete stays.

        Raises:
            ExplorerError: a job cannot be done; the others' checkpoints and folders stay for the next run.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of models and processes; safe to call twice."""


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """The order in which several workers are done soonest."""
    return sorted(jobs, key=lambda job: -planned_steps([len(task.train) for task in job.chosen.tasks], job.recipe))


def threads_of(workers: int) -> int:
    """This machine's cores for each of so many workers, or fewer where `OMP_NUM_THREADS` says so."""
    share = max(1, (os.cpu_count() or 1) // workers)
    given = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(given)) if given.isdigit() and int(given) > 0 else share
