"""A tiny base model, five tiny tasks, and a build of all stages of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from build_samples import built_events, four_tasks, plan_for
from tiny_trainable import save_tiny_llama

from explorer.models.base import BaseModel, load_base_model
from explorer.tasks.folder import read_tasks
from explorer.tasks.task import Task


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory) -> Path:
    return four_tasks(tmp_path_factory.mktemp("four"))


@pytest.fixture(scope="module")
def tasks(tasks_folder) -> tuple[Task, ...]:
    return read_tasks(tasks_folder)


@pytest.fixture(scope="module")
def base(base_folder: Path) -> BaseModel:
    return load_base_model(base_folder, device="cpu")


@pytest.fixture(scope="module")
def built(base, tasks, tmp_path_factory):
    """Plan, events and manifest of a build of all stages."""
    plan = plan_for(tmp_path_factory.mktemp("built") / "out", base)
    events = built_events(tasks, plan, base)
    return plan, events, json.loads((plan.output / "manifest.json").read_text())
