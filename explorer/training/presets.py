"""Schedules of a whole build: how the private adapters are trained, and how those of several tasks.

`paper`: what the authors' scripts use (arXiv 2405.11157): private adapters for a part of the schedule, which is what
they are clustered by, and the rest for each cluster. `sample`: that of the sample libraries, small and quick.
"""

from __future__ import annotations

from dataclasses import dataclass

from explorer.training.recipe import Recipe


@dataclass(frozen=True)
class Preset:
    """`private` trains one adapter per task, `together` those of clusters and the shared one."""

    private: Recipe
    together: Recipe


_PAPER = {
    "rank": 4,
    "dropout": 0.05,
    "learning_rate": 1e-4,
    "batch_size": 16,
    "warmup_fraction": 0.06,
    "max_rows": 10_000,
}
PRESETS = {
    "paper": Preset(Recipe(**_PAPER, epochs=2), Recipe(**_PAPER, epochs=3)),  # type: ignore[arg-type]
    "sample": Preset(
        Recipe(max_rows=800, mixed_precision=True),
        Recipe(max_rows=80, mixed_precision=True),
    ),
}
