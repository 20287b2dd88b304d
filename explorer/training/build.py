"""Building libraries: private adapters, then one adapter per cluster of tasks, then one for all (paper, section 3).

`build` yields events and leaves a folder for each stage and a manifest. Killed at any moment and run again, it adopts
what is complete, goes on from the last checkpoint, and ends with the same bytes as an undisturbed run.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import TaskDataError
from explorer.tasks.task import Task
from explorer.training.cards import read_card
from explorer.training.checkpoint import removed
from explorer.training.engine import Engine
from explorer.training.events import AdapterTrained, StepDone
from explorer.training.folder_lock import folder_lock
from explorer.training.library_files import write_library_files
from explorer.training.manifest import check_manifest, head, stage_entry, write_stage
from explorer.training.partition import Partition
from explorer.training.plan import BuildPlan, planned_steps
from explorer.training.progress import Progress
from explorer.training.stages import Stage, sizes, split_done, stage_of
from explorer.training.trainer import Job, make_output
from explorer.training.training_set import TrainingSet


@dataclass(frozen=True)
class TaskLeftOut:
    """A task without training rows: it is for zero-shot evaluation and trains nothing."""

    name: str


@dataclass(frozen=True)
class StageStarted:
    """A stage begins: how many adapters it has, how many are complete, and its clusters if it has such."""

    stage: str
    adapters: int
    complete: int
    partition: Partition | None


@dataclass(frozen=True)
class Advanced:
    """One step. `done` of `total` steps of the whole build; `seconds_left` for all of it."""

    stage: str
    step: StepDone
    done: int
    total: int
    seconds_left: float | None


@dataclass(frozen=True)
class AdapterReady:
    """An adapter of a stage is complete: trained just now, or before (`adopted`)."""

    stage: str
    name: str
    tasks: tuple[str, ...]
    card: Mapping[str, Any]
    adopted: bool


@dataclass(frozen=True)
class StageDone:
    """All adapters of a stage are complete, and the manifest says so."""

    stage: str
    folder: Path


BuildEvent = TaskLeftOut | StageStarted | Advanced | AdapterReady | StageDone


def build(tasks: Sequence[Task], plan: BuildPlan, engine: Engine) -> Generator[BuildEvent]:
    """Build the stages of `plan`.

    Raises:
        TaskDataError: there is nothing to train on, or the output belongs to another build or cannot be written.
        LibraryError: the clusters cannot be had.
        SettingsError: another process builds one of these stages; or training went astray.
    """
    for task in tasks:
        if task.held_out:
            yield TaskLeftOut(task.name)
    trained = sorted((task for task in tasks if not task.held_out), key=lambda task: task.name)
    if not trained:
        raise TaskDataError("Build", "has no task with training rows", fix='Mark some rows as "split": "train".')
    common = head(trained, plan.base)
    check_manifest(plan.output, common)
    with ExitStack() as locks:
        for name in plan.wanted:
            make_output(plan.folder(name))
            locks.enter_context(folder_lock(plan.folder(name)))
        progress = Progress({name: _expected(name, trained, plan) for name in plan.wanted})
        for name in plan.wanted:
            yield from _build_stage(stage_of(name, trained, plan), plan, engine, progress, common)


def _expected(name: str, tasks: Sequence[Task], plan: BuildPlan) -> int:
    return sum(planned_steps(rows, plan.recipe(name)) for rows in sizes(name, tasks))


def _build_stage(
    stage: Stage, plan: BuildPlan, engine: Engine, progress: Progress, common: Mapping[str, Any]
) -> Iterator[BuildEvent]:
    folder, recipe = plan.folder(stage.name), plan.recipe(stage.name)
    done, todo = split_done(stage, plan)
    cards = {chosen.name: read_card(folder / chosen.name) or {} for chosen in done}
    progress.begin(
        stage.name,
        {chosen.name: planned_steps([len(task.train) for task in chosen.tasks], recipe) for chosen in todo},
        {name: int(card.get("steps", 0)) for name, card in cards.items()},
    )
    yield StageStarted(stage.name, len(stage.sets), len(done), stage.partition)
    for chosen in done:
        removed(folder / chosen.name)
        yield _ready(stage, chosen, cards[chosen.name], adopted=True)
    sets = {chosen.name: chosen for chosen in todo}
    with closing(engine.run([Job(chosen, recipe, folder, plan.checkpoint_seconds) for chosen in todo])) as events:
        for event in events:
            match event:
                case StepDone():
                    progress.step(stage.name, event.name, event.step, event.steps)
                    yield Advanced(stage.name, event, progress.done, progress.total, progress.seconds_left)
                case AdapterTrained():
                    cards[event.name] = event.card
                    yield _ready(stage, sets[event.name], event.card, adopted=False)
    write_library_files(folder, stage, plan.base_model, recipe, cards)
    write_stage(plan.output, common, stage.name, stage_entry(stage, plan, cards))
    yield StageDone(stage.name, folder)


def _ready(stage: Stage, chosen: TrainingSet, card: Mapping[str, Any], *, adopted: bool) -> AdapterReady:
    return AdapterReady(stage.name, chosen.name, tuple(task.name for task in chosen.tasks), card, adopted)
