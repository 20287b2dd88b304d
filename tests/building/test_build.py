"""Building libraries: what each stage holds, what is adopted, and what a kill leaves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from build_samples import PRIVATE, TOGETHER, built_events, contents

import explorer
from explorer.adapters.sources import SAMPLES
from explorer.models.base import BaseModel
from explorer.training.batches import encode
from explorer.training.build import AdapterReady, Advanced, StageDone, StageStarted, TaskLeftOut, build
from explorer.training.events import StepDone
from explorer.training.local_engine import LocalEngine
from explorer.training.presets import PRESETS
from explorer.training.private import train_private
from explorer.training.trainer import Job, train
from explorer.training.training_set import TrainingSet, encoded_rows

ROOT = Path(__file__).parents[2]

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


def test_a_build_killed_at_random_moments_ends_as_an_undisturbed_one(tasks_folder, base_folder, tmp_path):
    script = [sys.executable, str(ROOT / "tests" / "building" / "killed_builds.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*script, str(tasks_folder), str(base_folder), str(tmp_path), "4", "8"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["codes"] == [0, 0, 0]
    # on a machine with much else to do a run may be over before the signal reaches it
    assert -9 in result["killed"], result
    assert result["checkpoints"] > 0
    assert result["interrupted"] in (0, 130)
    undisturbed = contents(tmp_path / "undisturbed")
    assert "mbc/cluster_1/adapter_model.safetensors" in undisturbed
    assert contents(tmp_path / "killed") == undisturbed
    assert contents(tmp_path / "interrupted") == undisturbed
