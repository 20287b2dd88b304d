"""What training tells as it goes on; the page and the command line put it into words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class AdapterSkipped:
    """The folder of this adapter is already there, made by the same recipe from the same data."""

    name: str


@dataclass(frozen=True)
class StepDone:
    """One optimiser step. `seconds_left` is for this adapter alone."""

    name: str
    step: int
    steps: int
    loss: float
    seconds_left: float


@dataclass(frozen=True)
class AdapterTrained:
    """One adapter is complete on disk. `card` is what its card.json holds."""

    name: str
    folder: Path
    card: dict[str, Any]


TrainingEvent = AdapterSkipped | StepDone | AdapterTrained
