"""What a build makes: its stages, each a library of its own, and every setting that the result depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from explorer.errors import SettingsError
from explorer.models.base import local_content
from explorer.training.cards import base_facts
from explorer.training.recipe import Recipe
from explorer.training.trainer import CHECKPOINT_SECONDS

PRIVATE, MBC, GIVEN, RANDOM, SHARED = "private", "mbc", "given", "random", "shared"
STAGES = {  # in the order in which they are built
    PRIVATE: "one adapter per task",
    MBC: "one adapter per cluster of tasks whose private adapters are alike (MBC)",
    GIVEN: "one adapter per cluster of a given file",
    RANDOM: "one adapter per cluster of tasks thrown together by chance",
    SHARED: "one adapter for all tasks",
}


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Settings of one build.

    Args:
        output: folder that takes a folder for each stage.
        base_model: name of the base model.
        private, together: how the adapters of one task, and of several, are trained.
        stages: of `STAGES`; () takes all that the other settings allow.
        n_clusters: of MBC; None takes the K of the highest silhouette.
        cluster_file: clusters that take the place of MBC's.
        measure, sparsity: of likeness between private adapters, see :mod:`explorer.analysis.similarity`.
        cluster_seed: of k-means.
        checkpoint_seconds: between two checkpoints within an adapter.

    Raises:
        SettingsError: an unknown stage, or clusters that nothing uses or that are missing.
    """

    output: Path
    base_model: str
    private: Recipe
    together: Recipe
    stages: tuple[str, ...] = ()
    n_clusters: int | None = None
    cluster_file: Path | None = None
    measure: str = "update"
    sparsity: float = 0.5
    cluster_seed: int = 42
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    def __post_init__(self) -> None:
        unknown = [stage for stage in self.stages if stage not in STAGES]
        if unknown:
            raise SettingsError(f"Stage {unknown[0]!r}", "is unknown", fix=f"Choose from: {', '.join(STAGES)}.")
        if GIVEN in self.stages and self.cluster_file is None:
            raise SettingsError("Stage 'given'", "needs a file of clusters", fix="Name one (--cluster-file).")
        if self.n_clusters is not None and self.cluster_file is not None and MBC not in self.stages:
            raise SettingsError("clusters", "are counted by the given file", fix="Leave out the number, or the file.")

    @cached_property
    def base(self) -> dict[str, str]:
        """The base model as cards and the manifest name it."""
        return base_facts(self.base_model, local_content(self.base_model))

    @property
    def wanted(self) -> tuple[str, ...]:
        """The stages to build, in order."""
        left_out = MBC if self.cluster_file else GIVEN
        return tuple(stage for stage in STAGES if (stage in self.stages if self.stages else stage != left_out))

    def recipe(self, stage: str) -> Recipe:
        """How the adapters of `stage` are trained."""
        return self.private if stage == PRIVATE else self.together

    def folder(self, stage: str) -> Path:
        """Where the library of `stage` lies."""
        return self.output / stage


def planned_steps(rows: Sequence[int], recipe: Recipe) -> int:
    """Steps for one adapter of tasks with so many training rows, if all of them fit."""
    count = sum(min(own, recipe.max_rows) for own in rows)
    return recipe.epochs * -(-count // recipe.batch_size)
