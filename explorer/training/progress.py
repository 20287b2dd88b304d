"""How far a whole build is: steps done of all steps, and the time that the rest will take at the pace so far."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Progress:
    """Counts steps over all stages.

    Args:
        expected: steps of each stage as far as they can be told beforehand.
    """

    def __init__(self, expected: Mapping[str, int]) -> None:
        self._stages = dict(expected)
        self._total: dict[tuple[str, str], int] = {}
        self._done: dict[tuple[str, str], int] = {}
        self._taken = 0
        self._started: float | None = None

    def begin(self, stage: str, steps: Mapping[str, int], finished: Mapping[str, int]) -> None:
        """Replace what was expected of a stage by the steps of its adapters still to do, and of those complete."""
        self._stages.pop(stage, None)
        self._total |= {(stage, name): count for name, count in (*steps.items(), *finished.items())}
        self._done |= {(stage, name): count for name, count in finished.items()}
        self._started = self._started or time.monotonic()

    def step(self, stage: str, name: str, step: int, steps: int) -> None:
        """One step was taken."""
        self._total[stage, name], self._done[stage, name] = steps, step
        self._taken += 1

    @property
    def done(self) -> int:
        """Steps taken, those of earlier runs included."""
        return sum(self._done.values())

    @property
    def total(self) -> int:
        """All steps of the build."""
        return max(self.done, sum(self._total.values()) + sum(self._stages.values()))

    @property
    def seconds_left(self) -> float | None:
        """At the pace of this run; None before its first step."""
        if not self._taken or self._started is None:
            return None
        return (time.monotonic() - self._started) / self._taken * (self.total - self.done)
