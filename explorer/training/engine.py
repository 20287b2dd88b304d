"""Where adapters are trained: an engine takes jobs and tells how they go.

Whichever is used, the folders are the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from explorer.training.events import AdapterTrained, StepDone
from explorer.training.trainer import Job


class Engine(ABC):
    """Runs training jobs on some machine or machines."""

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> Iterator[StepDone | AdapterTrained]:
        """Train every job's adapter into its folder, in any order.

        Closing the iterator stops what is under way; what is complete stays.

        Raises:
            ExplorerError: a job cannot be done; the others' checkpoints and folders stay for the next run.
        """
