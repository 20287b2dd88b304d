"""Four tiny tasks and a build of all stages of them, for the tests of building."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from tiny_trainable import write_tasks

from explorer.models.base import BaseModel
from explorer.training.build import build
from explorer.training.local_engine import LocalEngine
from explorer.training.plan import BuildPlan
from explorer.training.recipe import Recipe

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


def plan_for(output: Path, base: BaseModel, **changes: object) -> BuildPlan:
    settings: dict[str, object] = {"n_clusters": 2, "private": PRIVATE, "together": TOGETHER, **changes}
    return BuildPlan(output=output, base_model=base.name, **settings)  # type: ignore[arg-type]


def built_events(tasks, plan: BuildPlan, base: BaseModel) -> list[object]:
    return list(build(tasks, plan, LocalEngine(lambda: base)))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")
