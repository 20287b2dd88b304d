"""Building libraries: clusters by every way, what is refused, and the command."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from build_samples import PRIVATE, built_events, contents, plan_for

from explorer.__main__ import main
from explorer.commands.build import add_options, recipes_from
from explorer.commands.command import Parser
from explorer.errors import ExplorerError, LibraryError, SettingsError, TaskDataError
from explorer.training.build import Advanced, build
from explorer.training.cards import is_done
from explorer.training.folder_lock import folder_lock
from explorer.training.local_engine import LocalEngine
from explorer.training.partition import random_partition
from explorer.training.progress import Progress
from explorer.training.recipe import Recipe
from explorer.training.training_set import TrainingSet

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

JUNK = [  # manifests whose head is right
    json.dumps({"format": 1, "base_model": "tiny", "tasks": {}, "stages": stages})
    for stages in ({"private": 5}, {"evil": {}}, {"shared": {"recipe": {}}})
]


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
    assert is_done(tmp_path / "next", chosen, built[0].base, PRIVATE)
    (tmp_path / "next" / "adapter_model.safetensors").unlink()
    with pytest.raises(TaskDataError, match="is damaged"):
        is_done(tmp_path / "next", chosen, built[0].base, PRIVATE)


@pytest.mark.parametrize(
    "change",
    [
        {"loss_after": "low"},
        {"loss_before": 10**400},
        {"steps": -5},
        {"steps": None},
        {"versions": 3},
        {"loss_split": []},
    ],
)
def test_an_adapter_whose_card_says_no_losses_is_not_adopted(change, built, tasks, tmp_path):
    shutil.copytree(built[0].output / "private" / "next", tmp_path / "next")
    path = tmp_path / "next" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    chosen = TrainingSet("next", tuple(task for task in tasks if task.name == "next"))
    with pytest.raises(TaskDataError, match="is damaged"):
        is_done(tmp_path / "next", chosen, built[0].base, PRIVATE)


@pytest.mark.parametrize("text", ["{", "[]", '{"stages": []}', "[" * 100_000, *JUNK])
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
    assert sample.together == Recipe(max_rows=80, mixed_precision=True)
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
def test_bad_options_are_one_sentence_and_leave_nothing(words, problem, base_folder, tasks_folder, tmp_path, capsys):
    base = [] if "--base" in words else ["--base", str(base_folder)]
    assert main(["build", str(tasks_folder), "--output", str(tmp_path / "out"), *base, *words]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("digits", [4_000, 5_000])  # Python reads the first as a number
def test_a_number_without_end_is_not_repeated_in_full(digits):
    with pytest.raises(SettingsError) as raised:
        recipes("--rank", "1" * digits)
    assert "1" * 30 in raised.value.sentence
    assert len(raised.value.sentence) < 200


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
