"""Engines: the same adapters whoever trains them, and nothing is lost with a worker."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from build_samples import PRIVATE, contents, weights_of
from tiny_trainable import write_tasks

from explorer.errors import BaseModelError, SettingsError
from explorer.models.base import load_base_model
from explorer.tasks.folder import read_tasks
from explorer.training import workers_engine
from explorer.training.engine import Engine, longest_first, threads_of
from explorer.training.events import AdapterTrained, StepDone
from explorer.training.local_engine import LocalEngine
from explorer.training.ray_engine import RayEngine
from explorer.training.trainer import Job
from explorer.training.training_set import TrainingSet
from explorer.training.workers_engine import WorkersEngine

RECIPE = replace(PRIVATE, epochs=6)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here and in the processes that are started, so that the arithmetic is the same."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> list[TrainingSet]:
    tasks = read_tasks(write_tasks(tmp_path_factory.mktemp("tasks"), rows=24))
    return [*(TrainingSet(task.name, (task,)) for task in tasks), TrainingSet("both", tasks)]


@pytest.fixture(scope="module")
def expected(base_folder, sets, tmp_path_factory) -> Path:
    """The folder of the local engine's adapters."""
    output = tmp_path_factory.mktemp("expected")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    list(LocalEngine(lambda: load_base_model(base_folder, device="cpu")).run(jobs_for(sets, output)))
    torch.set_num_threads(threads)
    return output


def jobs_for(sets: list[TrainingSet], output: Path, recipe=RECIPE) -> list[Job]:
    return [Job(chosen, recipe, output, checkpoint_seconds=0.0) for chosen in sets]


def trained_with_a_loss(engine: Engine, jobs: list[Job], victim: Callable[[], psutil.Process]) -> list[object]:
    """All events; a worker is killed in the middle of its first adapter."""
    events, killed = [], False
    for event in engine.run(jobs):
        events.append(event)
        if isinstance(event, StepDone) and event.step >= 3 and not killed:
            killed = True
            victim().send_signal(signal.SIGKILL)
    assert killed
    return events


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def check_same(output: Path, expected: Path) -> None:
    assert sorted(path.name for path in output.iterdir()) == ["both", "copy", "next"]
    for name in ("both", "copy", "next"):
        ours, theirs = weights_of(output / name), weights_of(expected / name)
        assert list(ours) == list(theirs)
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], atol=2e-3, rtol=2e-3)
        cards = [json.loads((folder / name / "card.json").read_text()) for folder in (output, expected)]
        assert cards[0]["loss_after"] == pytest.approx(cards[1]["loss_after"], abs=1e-3)


def test_workers_make_the_same_adapters_and_a_lost_one_loses_nothing(base_folder, sets, expected, tmp_path):
    with closing(WorkersEngine(str(base_folder), 2)) as engine:
        events = trained_with_a_loss(engine, jobs_for(sets, tmp_path), lambda: workers()[-1])
        trained = [event.name for event in events if isinstance(event, AdapterTrained)]
        assert sorted(trained) == ["both", "copy", "next"]
        check_same(tmp_path, expected)
        assert contents(tmp_path) == contents(expected)
        with pytest.raises(BaseModelError, match="has no linear modules called nosuch"):
            list(engine.run(jobs_for(sets[:1], tmp_path / "no", replace(RECIPE, target_modules=("nosuch",)))))
    assert not workers()


def test_a_job_that_loses_every_worker_ends_the_build(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(workers_engine, "serve", os._exit)
    monkeypatch.setattr(workers_engine, "threads_of", lambda count: 9)
    with (
        closing(WorkersEngine("base", 1)) as engine,
        pytest.raises(SettingsError, match=r"copy: lost its worker 4 times \(exit code 1\)\. Memory may be short"),
    ):
        list(engine.run(jobs_for(sets[:1], tmp_path)))


def test_the_longest_job_comes_first(sets, tmp_path):
    assert [job.chosen.name for job in longest_first(jobs_for(sets, tmp_path))] == ["both", "copy", "next"]


@pytest.mark.parametrize(
    ("given", "cores", "workers", "threads"),
    [("", 8, 2, 4), ("", 2, 4, 1), ("3", 8, 2, 3), ("16", 8, 2, 4), ("x", 8, 1, 8)],
)
def test_threads_are_shared_out(given, cores, workers, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert threads_of(workers) == threads


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        SettingsError, match=r"Engine 'ray': needs Ray, which is not installed\. Install it: pip install"
    ):
        RayEngine("base")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "[::1]:1"])
def test_a_cluster_that_is_not_there_is_told_at_once(address, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(SettingsError) as raised:
        RayEngine("base")
    assert raised.value.sentence == (f"Ray: cannot be reached at {address}. Start it there, or correct RAY_ADDRESS.")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_makes_the_same_adapters_and_a_lost_worker_loses_nothing(base_folder, sets, expected, tmp_path):
    pytest.importorskip("ray")

    def task_process() -> psutil.Process:
        ours = psutil.Process().children(recursive=True)
        return next(child for child in ours if "ray::train_remotely" in " ".join(child.cmdline()))

    with closing(RayEngine(str(base_folder), workers=2)) as engine:
        events = trained_with_a_loss(engine, jobs_for(sets, tmp_path), task_process)
        steps = [event for event in events if isinstance(event, StepDone)]
        assert {(event.name, event.step) for event in steps} >= {("both", 36), ("copy", 18), ("next", 18)}
        check_same(tmp_path, expected)
        with pytest.raises(SettingsError, match="no: is not seen by a machine of the cluster"):
            list(engine.run(jobs_for(sets[:1], tmp_path / "no")))
    assert not [child for child in psutil.Process().children() if "ray" in " ".join(child.cmdline())]
