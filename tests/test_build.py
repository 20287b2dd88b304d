"""Building libraries: what each stage holds, what is adopted, what a kill leaves, and what is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_training import base_folder, weights_of  # noqa: F401 - a fixture
from tiny_trainable import write_tasks

import explorer
from explorer.__main__ import main
from explorer.adapters.sources import SAMPLES
from explorer.commands.build import add_options, recipes_from
from explorer.commands.command import Parser
from explorer.errors import ExplorerError, LibraryError, SettingsError, TaskDataError
from explorer.models.base import BaseModel, load_base_model
from explorer.tasks.folder import read_tasks
from explorer.tasks.task import Task
from explorer.training.batches import encode
from explorer.training.build import AdapterReady, Advanced, StageDone, StageStarted, TaskLeftOut, build
from explorer.training.cards import is_done
from explorer.training.events import StepDone
from explorer.training.folder_lock import folder_lock
from explorer.training.local_engine import LocalEngine
from explorer.training.partition import random_partition
from explorer.training.plan import BuildPlan
from explorer.training.presets import PRESETS
from explorer.training.private import train_private
from explorer.training.progress import Progress
from explorer.training.recipe import Recipe
from explorer.training.trainer import Job, train
from explorer.training.training_set import TrainingSet, encoded_rows

ROOT = Path(__file__).parents[1]
PRIVATE = Recipe(rank=2, learning_rate=0.02, dropout=0.2, max_rows=24)
TOGETHER = replace(PRIVATE, max_rows=16, epochs=2)


def four_tasks(folder: Path) -> Path:
    """`copy` and `next`, each twice with other rows, and a task without training rows."""
    write_tasks(folder, rows=20)
    for name, other in (("copy", "again"), ("next", "onward")):
        lines = (folder / f"{name}.jsonl").read_text().splitlines()
        text = "\n".join(reversed(lines)).replace(f'"{name}"', f'"{other}"')
        (folder / f"{other}.jsonl").write_text(text.replace('"letters"', '"repeats"') + "\n")
    (folder / "held.jsonl").write_text(json.dumps({"prompt": "c a", "target": "a", "split": "test"}) + "\n")
    return folder


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory) -> Path:
    return four_tasks(tmp_path_factory.mktemp("four"))


@pytest.fixture(scope="module")
def tasks(tasks_folder) -> tuple[Task, ...]:
    return read_tasks(tasks_folder)


@pytest.fixture(scope="module")
def base(base_folder: Path) -> BaseModel:  # noqa: F811
    return load_base_model(base_folder, device="cpu")


def plan_for(output: Path, base: BaseModel, **changes: object) -> BuildPlan:
    settings: dict[str, object] = {"n_clusters": 2, "private": PRIVATE, "together": TOGETHER, **changes}
    return BuildPlan(output=output, base_model=base.name, **settings)  # type: ignore[arg-type]


def built_events(tasks, plan: BuildPlan, base: BaseModel) -> list[object]:
    return list(build(tasks, plan, LocalEngine(lambda: base)))


@pytest.fixture(scope="module")
def built(base, tasks, tmp_path_factory):
    """Plan, events and manifest of a build of all stages."""
    plan = plan_for(tmp_path_factory.mktemp("built") / "out", base)
    events = built_events(tasks, plan, base)
    return plan, events, json.loads((plan.output / "manifest.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is built


def test_every_stage_is_a_library_of_its_own(built):
    plan, events, manifest = built
    assert events[0] == TaskLeftOut("held")
    assert [event.stage for event in events if isinstance(event, StageDone)] == ["private", "mbc", "random", "shared"]
    for stage, entry in manifest["stages"].items():
        library = explorer.open_library(plan.output / stage)
        assert list(library.names) == list(entry["adapters"])
        assert library.title == f"tiny {stage} library"
        assert all(adapter.can_be_routed for adapter in library)
    assert set(manifest["stages"]["private"]["adapters"]) == {"copy", "again", "next", "onward"}
    assert manifest["stages"]["shared"]["adapters"]["shared"]["tasks"] == ["again", "copy", "next", "onward"]


def test_each_cluster_is_trained_on_the_union_of_its_tasks(built):
    plan, events, manifest = built
    started = next(event for event in events if isinstance(event, StageStarted) and event.stage == "mbc")
    clusters = manifest["stages"]["mbc"]["clusters"]
    assert clusters["members"] == {name: list(members) for name, members in started.partition.members.items()}
    assert sorted(task for members in clusters["members"].values() for task in members) == [
        "again",
        "copy",
        "next",
        "onward",
    ]
    assert json.loads((plan.output / "mbc" / "clusters.json").read_text()) == clusters["members"]
    assert (clusters["method"], clusters["n_clusters"], clusters["measure"]) == ("mbc", 2, "update")
    assert set(clusters["silhouettes"]) == {"2", "3"}
    for name, members in clusters["members"].items():
        entry = manifest["stages"]["mbc"]["adapters"][name]
        assert entry["train_rows"] == 16 * len(members)
        assert entry["steps"] == 2 * 2 * len(members)
        card = json.loads((plan.output / "mbc" / name / "card.json").read_text())
        assert [task["name"] for task in card["tasks"]] == members
        assert card["tasks"][0]["data_sha256"] == manifest["tasks"][members[0]]["data_sha256"]


def test_random_clusters_are_as_many_and_of_equal_size(built):
    clusters = built[2]["stages"]["random"]["clusters"]
    assert [len(members) for members in clusters["members"].values()] == [2, 2]
    assert built[2]["stages"]["mbc"]["clusters"]["n_clusters"] == clusters["n_clusters"]


def test_the_manifest_says_what_is_on_disk(built):
    plan, _, manifest = built
    for stage, entry in manifest["stages"].items():
        for name, adapter in entry["adapters"].items():
            folder = plan.output / stage / name
            digest = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
            card = json.loads((folder / "card.json").read_text())
            assert adapter["sha256"] == digest
            assert (adapter["loss_before"], adapter["loss_after"]) == (card["loss_before"], card["loss_after"])
            assert entry["recipe"] == card["recipe"]
            assert entry["versions"] == [card["versions"]]
    assert "seconds" not in json.dumps(manifest)


def test_progress_counts_all_steps_of_the_build(built):
    steps = [event for event in built[1] if isinstance(event, Advanced)]
    assert [event.done for event in steps] == list(range(1, len(steps) + 1))
    assert {event.total for event in steps} == {len(steps)}
    assert steps[-1].seconds_left == 0


def test_a_private_adapter_is_the_one_that_train_makes(built, base, tasks, tmp_path):
    plan, _, _ = built
    list(train_private(base, [task for task in tasks if task.name == "next"], PRIVATE, tmp_path))
    assert contents(tmp_path / "next") == contents(plan.output / "private" / "next")


def test_rows_are_the_first_of_each_task_one_task_after_another(base, tasks):
    pair = tuple(task for task in tasks if task.name in ("copy", "next"))
    rows = encoded_rows(TrainingSet("both", pair), base.tokenizer, replace(PRIVATE, max_rows=3), 64)
    first = [example for task in pair for example in task.train[:3]]
    assert rows.train == [encode(base.tokenizer, [each], chat=True, max_tokens=64)[0] for each in first]
    assert (rows.of_task, rows.split, len(rows.judged)) == ((3, 3), "test", 16)


# Again, and adopted


def test_a_second_run_trains_nothing_and_changes_nothing(built, base, tasks):
    plan, _, _ = built
    before = contents(plan.output)

    def load() -> BaseModel:
        raise AssertionError("there is nothing to train")

    events = list(build(tasks, plan, LocalEngine(load)))
    assert all(event.adopted for event in events if isinstance(event, AdapterReady))
    assert contents(plan.output) == before


def test_adapters_made_by_an_earlier_train_are_adopted(built, base, tasks, tmp_path):
    """Their cards hold the measured seconds and no list of tasks."""
    plan = replace(built[0], output=tmp_path, stages=("private", "mbc"))
    shutil.copytree(built[0].output / "private", tmp_path / "private", ignore=shutil.ignore_patterns("*.md", "lib*"))
    path = tmp_path / "private" / "next" / "card.json"
    card = json.loads(path.read_text())
    del card["tasks"]
    path.write_text(json.dumps({**card, "seconds": 3.2}))

    events = built_events(tasks, plan, base)

    assert [event.adopted for event in events if isinstance(event, AdapterReady)] == [True] * 4 + [False] * 2
    assert json.loads((tmp_path / "manifest.json").read_text())["stages"] == {
        stage: built[2]["stages"][stage] for stage in ("private", "mbc")
    }


def test_the_cards_of_the_sample_library_are_of_the_sample_preset():
    card = json.loads((SAMPLES / "smollm2-135m-private" / "add3" / "card.json").read_text())
    assert card["recipe"] == PRESETS["sample"].private.as_dict()


# Checkpoints


def stopped_after(base: BaseModel, job: Job, steps: int) -> None:
    events = train(base, job)
    for _ in range(steps):
        next(events)
    events.close()


@pytest.mark.parametrize("damage", ["none", "cut", "other recipe", "other weights"])
def test_a_stopped_training_ends_as_an_undisturbed_one(damage, base, tasks, tmp_path):
    """With dropout, so that the state of chance counts."""
    chosen = TrainingSet("all", tuple(task for task in tasks if not task.held_out))
    whole = Job(chosen, TOGETHER, tmp_path / "whole")
    part = Job(chosen, TOGETHER, tmp_path / "part", checkpoint_seconds=0.0)
    whole.output.mkdir()
    part.output.mkdir()
    list(train(base, whole))
    stopped_after(base, replace(part, recipe=PRIVATE) if damage == "other recipe" else part, 5)
    (checkpoint,) = part.output.iterdir()
    if damage == "cut":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    if damage == "other weights":
        raw = checkpoint.read_bytes()
        checkpoint.write_bytes(raw.replace(b"lora_A", b"lora_X"))

    events = list(train(base, part))

    steps = [event.step for event in events if isinstance(event, StepDone)]
    assert steps == list(range(6 if damage == "none" else 1, 17))
    assert contents(part.output) == contents(whole.output)


def test_a_build_killed_at_random_moments_ends_as_an_undisturbed_one(tasks_folder, base_folder, tmp_path):  # noqa: F811
    script = [sys.executable, str(ROOT / "tests" / "killed_builds.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*script, str(tasks_folder), str(base_folder), str(tmp_path), "4", "6"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["codes"] == [0, 0, 0]
    assert result["killed"] == [-9] * 6
    assert result["checkpoints"] > 0
    assert result["interrupted"] == 130
    undisturbed = contents(tmp_path / "undisturbed")
    assert "mbc/cluster_1/adapter_model.safetensors" in undisturbed
    assert contents(tmp_path / "killed") == undisturbed
    assert contents(tmp_path / "interrupted") == undisturbed


# Clusters


def test_one_task_makes_one_cluster(base, tasks, tmp_path):
    (task,) = [task for task in tasks if task.name == "copy"]
    built_events([task], plan_for(tmp_path, base, n_clusters=10), base)
    stages = json.loads((tmp_path / "manifest.json").read_text())["stages"]
    assert stages["mbc"]["clusters"]["members"] == stages["random"]["clusters"]["members"] == {"cluster_0": ["copy"]}
    assert stages["mbc"]["clusters"]["asked_for"] == 10


def test_given_clusters_take_the_place_of_mbc(base, tasks, tmp_path):
    given = {"c0o2": ["copy", "onward", "next"], "c1o2": ["again"]}
    (tmp_path / "given.json").write_text(json.dumps(given))
    plan = plan_for(tmp_path / "out", base, n_clusters=None, cluster_file=tmp_path / "given.json", stages=("given",))
    assert replace(plan, stages=()).wanted == ("private", "given", "random", "shared")
    built_events(tasks, plan, base)
    clusters = json.loads((plan.output / "given" / "clusters.json").read_text())
    assert {frozenset(members) for members in clusters.values()} == {frozenset(each) for each in given.values()}
    assert not (plan.output / "private").exists()


@pytest.mark.parametrize(
    ("clusters", "problem"),
    [
        ({"cluster_0": ["copy", "again", "next", "onward", "minus"]}, "names 'minus', which is not in this library"),
        ({"cluster_0": ["copy", "again"], "cluster_1": ["copy", "next", "onward"]}, "'copy' into two clusters"),
        ({"cluster_0": ["copy", "again", "next"]}, "lacks 'onward', which is in this library"),
    ],
)
def test_given_clusters_that_are_no_partition_of_the_tasks(clusters, problem, base, tasks, tmp_path):
    (tmp_path / "given.json").write_text(json.dumps(clusters))
    plan = plan_for(tmp_path / "out", base, n_clusters=None, cluster_file=tmp_path / "given.json", stages=("given",))
    with pytest.raises(LibraryError, match=problem):
        built_events(tasks, plan, base)


@pytest.mark.parametrize("count", [1, 3, 7, 50])
def test_random_clusters(count):
    names = [f"task{index}" for index in range(20)]
    members = random_partition(names, count, seed=5).members
    assert sorted(name for each in members.values() for name in each) == sorted(names)
    sizes = [len(each) for each in members.values()]
    assert len(sizes) == min(count, 20)
    assert max(sizes) - min(sizes) <= 1
    assert members == random_partition(names[::-1], count, seed=5).members
    assert count in (1, 50) or members != random_partition(names, count, seed=6).members


# What is refused


def test_clusters_need_every_private_adapter(base, tasks, tmp_path):
    with pytest.raises(TaskDataError) as raised:
        built_events(tasks, plan_for(tmp_path, base, stages=("mbc",)), base)
    assert raised.value.sentence == (
        f"{tmp_path / 'private'}: lacks the adapter of again. Build the stage 'private' first."
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"private": replace(PRIVATE, seed=1)}, "comes from another recipe, base model or data"),
        ({"base_model": "other"}, "holds a build of another base model"),
    ],
)
def test_an_output_of_another_build(change, problem, built, base, tasks):
    before = contents(built[0].output)
    with pytest.raises(TaskDataError, match=problem):
        built_events(tasks, replace(built[0], **change), base)
    assert contents(built[0].output) == before


def test_an_output_of_other_tasks(built, base, tasks):
    with pytest.raises(TaskDataError, match="holds a build of another tasks or data"):
        built_events([task for task in tasks if task.name != "next"], built[0], base)


def test_a_folder_that_holds_something_else(built, base, tasks, tmp_path):
    plan = replace(built[0], output=tmp_path, stages=("private",))
    (tmp_path / "private" / "stranger").mkdir(parents=True)
    with pytest.raises(TaskDataError, match="holds stranger, which is no part of this build"):
        built_events(tasks, plan, base)


def test_an_adapter_without_weights_is_not_adopted(built, tasks, tmp_path):
    shutil.copytree(built[0].output / "private" / "next", tmp_path / "next")
    chosen = TrainingSet("next", tuple(task for task in tasks if task.name == "next"))
    assert is_done(tmp_path / "next", chosen, built[0].base_model, PRIVATE)
    (tmp_path / "next" / "adapter_model.safetensors").unlink()
    with pytest.raises(TaskDataError, match="is there already, but"):
        is_done(tmp_path / "next", chosen, built[0].base_model, PRIVATE)


@pytest.mark.parametrize("text", ["{", "[]", '{"stages": []}', "[" * 100_000])
def test_a_damaged_manifest(text, base, tasks, tmp_path):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(TaskDataError, match=r"manifest\.json: is no manifest of a build"):
        built_events(tasks, plan_for(tmp_path, base), base)


def test_two_builds_of_one_stage_at_once(base, tasks, tmp_path):
    plan = plan_for(tmp_path, base, stages=("private",))
    events = build(tasks, plan, LocalEngine(lambda: base))
    while not isinstance(next(events), Advanced):
        pass
    with pytest.raises(SettingsError, match=r"private: is being built by another process\. Wait until it has ended"):
        built_events(tasks, plan, base)
    with (
        pytest.raises(SettingsError, match="is being built by another process"),
        folder_lock(tmp_path / "private", alone=False),  # as `train` holds it
    ):
        pass
    events.close()
    with folder_lock(tmp_path / "private", alone=False), folder_lock(tmp_path / "private", alone=False):
        pass


def test_nothing_to_train_on(base, tasks, tmp_path):
    held = [task for task in tasks if task.held_out]
    with pytest.raises(TaskDataError, match="has no task with training rows"):
        built_events(held, plan_for(tmp_path / "out", base), base)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"stages": ("private", "nbc")}, r"Stage 'nbc': is unknown\. Choose from: private, mbc, given, random, shared"),
        ({"stages": ("given",)}, "Stage 'given': needs a file of clusters"),
        ({"cluster_file": Path("f.json")}, "clusters: are counted by the given file"),
    ],
)
def test_plans_that_make_no_sense(changes, problem, base, tmp_path):
    with pytest.raises(SettingsError, match=problem):
        plan_for(tmp_path, base, **changes)


# The command


def recipes(*words: str):
    parser = Parser()
    add_options(parser)
    return recipes_from(parser.parse_args(["tasks", "--output", "out", *words]))


def test_presets_and_what_is_given_in_place_of_their_values():
    paper = recipes()
    assert (paper.private.rank, paper.private.dropout, paper.private.learning_rate) == (4, 0.05, 1e-4)
    assert (paper.private.batch_size, paper.private.warmup_fraction, paper.private.max_rows) == (16, 0.06, 10_000)
    assert (paper.private.epochs, paper.together.epochs) == (2, 3)
    sample = recipes("--preset", "sample")
    assert sample.private == Recipe(max_rows=800, mixed_precision=True)
    assert sample.together == Recipe(max_rows=200, mixed_precision=True)
    given = recipes("--preset", "sample", "--max-rows", "50", "--cluster-epochs", "4", "--no-mixed-precision")
    assert (given.private.max_rows, given.together.max_rows) == (50, 50)
    assert (given.private.epochs, given.together.epochs, given.together.mixed_precision) == (1, 4, False)
    assert recipes("--cluster-max-rows", "7").together.max_rows == 7


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--rank", "0"], "rank: expected 1 to 1024, found 0."),
        (["--stages", ","], "A list of names: expected names with commas between"),
        (["--base", "no such model"], "no such model: is no known model, folder or hub id"),
        (["--target-modules", "nosuch"], "has no linear modules called nosuch"),
        (["--only", "minus"], "has no task 'minus'"),
    ],
)
def test_bad_options_are_one_sentence_and_leave_nothing(words, problem, base_folder, tasks_folder, tmp_path, capsys):  # noqa: F811
    base = [] if "--base" in words else ["--base", str(base_folder)]
    assert main(["build", str(tasks_folder), "--output", str(tmp_path / "out"), *base, *words]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_progress_tells_the_time_left_only_once_it_can():
    progress = Progress({"private": 10, "shared": 5})
    assert (progress.done, progress.total, progress.seconds_left) == (0, 15, None)
    progress.begin("private", {"a": 6}, {"b": 3})
    assert (progress.done, progress.total) == (3, 14)
    progress.step("private", "a", 4, 7)
    assert (progress.done, progress.total) == (7, 15)
    assert progress.seconds_left is not None


def test_an_error_travels_to_another_process_with_its_parts():
    error = TaskDataError("here", "is wrong", expected="this", found="that", fix="Do it.")
    again = copy.copy(error)  # by the same way as between processes
    assert isinstance(again, TaskDataError)
    assert isinstance(again, ExplorerError)
    assert again.sentence == error.sentence == "here: is wrong, expected this, found that. Do it."
