"""A stage of a build: which adapters it has, which of them are complete, and what must not lie beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from explorer.errors import TaskDataError
from explorer.tasks.task import Task
from explorer.training.cards import is_done
from explorer.training.partition import Partition, given_partition, mbc_partition, random_partition
from explorer.training.plan import GIVEN, PRIVATE, RANDOM, SHARED, BuildPlan
from explorer.training.training_set import TrainingSet


@dataclass(frozen=True)
class Stage:
    """The adapters of one stage, and how their tasks were brought together (None for private and shared)."""

    name: str
    sets: tuple[TrainingSet, ...]
    partition: Partition | None = None


def stage_of(name: str, tasks: Sequence[Task], plan: BuildPlan) -> Stage:
    """What there is to train in a stage.

    Raises:
        TaskDataError: the clusters depend on private adapters that are not there.
        LibraryError: the file of clusters, or the private library, cannot be used.
    """
    if name == PRIVATE:
        return Stage(name, tuple(TrainingSet(task.name, (task,)) for task in tasks))
    if name == SHARED:
        return Stage(name, (TrainingSet(SHARED, tuple(tasks)),))
    partition = _partition(name, tasks, plan)
    by_name = {task.name: task for task in tasks}
    sets = [
        TrainingSet(cluster, tuple(by_name[member] for member in members))
        for cluster, members in partition.members.items()
    ]
    return Stage(name, tuple(sets), partition)


def _partition(name: str, tasks: Sequence[Task], plan: BuildPlan) -> Partition:
    names = [task.name for task in tasks]
    if name == GIVEN or (name == RANDOM and plan.cluster_file):
        assert plan.cluster_file is not None
        found = given_partition(plan.cluster_file, names)
    else:
        _check_private(tasks, plan)
        found = mbc_partition(
            plan.folder(PRIVATE),
            names,
            n_clusters=plan.n_clusters,
            measure=plan.measure,
            sparsity=plan.sparsity,
            seed=plan.cluster_seed,
        )
    return random_partition(names, len(found.members), plan.together.seed) if name == RANDOM else found


def _check_private(tasks: Sequence[Task], plan: BuildPlan) -> None:
    folder = plan.folder(PRIVATE)
    for task in tasks:
        chosen = TrainingSet(task.name, (task,))
        if not is_done(folder / task.name, chosen, plan.base, plan.private):
            raise TaskDataError(
                str(folder), f"lacks the adapter of {task.name}", fix=f"Build the stage {PRIVATE!r} first."
            )


def split_done(stage: Stage, plan: BuildPlan) -> tuple[list[TrainingSet], list[TrainingSet]]:
    """The sets whose adapters are complete, and those still to be trained.

    Raises:
        TaskDataError: the stage's folder holds an adapter of something else.
    """
    folder = plan.folder(stage.name)
    _check_strangers(folder, {chosen.name for chosen in stage.sets})
    done: Mapping[str, bool] = {
        chosen.name: is_done(folder / chosen.name, chosen, plan.base, plan.recipe(stage.name)) for chosen in stage.sets
    }
    return (
        [chosen for chosen in stage.sets if done[chosen.name]],
        [chosen for chosen in stage.sets if not done[chosen.name]],
    )


def _check_strangers(folder: Path, expected: set[str]) -> None:
    found = [item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith(".")]
    strange = sorted(set(found) - expected)
    if strange:
        raise TaskDataError(
            str(folder),
            f"holds {strange[0]}, which is no part of this build",
            fix="Remove it, or choose another output folder.",
        )


def sizes(stage: str, tasks: Sequence[Task]) -> list[list[int]]:
    """Training rows of each task of each adapter, as far as they can be told before clusters are known."""
    rows = [len(task.train) for task in tasks]
    return [[own] for own in rows] if stage == PRIVATE else [rows]
