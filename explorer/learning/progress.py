"""How learning tells what it does, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from explorer.errors import LearningError

Progress = Callable[[int, int, str], None]  # steps done, steps in all, what is going on


def _silent(_: int, __: int, ___: str) -> None:
    """Report nothing."""


def _never() -> bool:
    """Go on."""
    return False


class LearningStopped(LearningError):
    """The caller asked for a stop; nothing was kept."""

    def __init__(self) -> None:
        super().__init__("Learning", "was stopped, and nothing of it was kept")


@dataclass(frozen=True)
class Watch:
    """Progress and stop of one piece of work.

    Attributes:
        report: called with (steps done, steps in all, what is going on).
        stop: asked before each step.
    """

    report: Progress = _silent
    stop: Callable[[], bool] = _never

    def step(self, done: int, total: int, note: str) -> None:
        """A step is about to begin.

        Raises:
            LearningStopped: it should not.
        """
        if self.stop():
            raise LearningStopped
        self.report(done, total, note)


SILENT = Watch()
