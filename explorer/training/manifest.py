"""The manifest of a build: data, settings, clusters, and every adapter's hash and losses.

Nothing in it depends on when, how often or how fast the build ran: the same build on the same machine gives the same
bytes, whatever interrupted it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from explorer.adapters.factors import WEIGHTS
from explorer.errors import SettingsError, TaskDataError
from explorer.tasks.task import Task
from explorer.training.cards import BASE, BASE_CONTENT, RESULTS, is_of_base
from explorer.training.folder_lock import folder_lock
from explorer.training.plan import STAGES, BuildPlan
from explorer.training.stages import Stage
from explorer.training.whole_files import sha256_of, write_json

MANIFEST = "manifest.json"
FORMAT = 1
MAX_BYTES = 64 << 20
PATIENCE = 30.0  # seconds to wait while another stage of the same build writes


def head(tasks: Sequence[Task], base: Mapping[str, str]) -> dict[str, Any]:
    """What all stages of a build have in common."""
    data = {
        task.name: {"family": task.family, "data_sha256": task.data_hash, "train_rows": len(task.train)}
        for task in tasks
    }
    return {"format": FORMAT, **base, "tasks": data}


def check_manifest(output: Path, common: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest in `output`, or a new one where there is none.

    Raises:
        TaskDataError: it is one of another build, or none at all.
    """
    path = output / MANIFEST
    if not path.exists():
        return {**common, "stages": {}}
    found = read_manifest(output)
    alike = {
        "format": found["format"] == common["format"],
        "base model": is_of_base(found, common),
        "tasks or data": found["tasks"] == common["tasks"],
    }
    for what, same in alike.items():
        if not same:
            raise TaskDataError(
                str(output),
                f"holds a build of another {what}",
                fix="Choose another output folder; private adapters that fit may be copied there.",
            )
    return found


def read_manifest(output: Path) -> dict[str, Any]:
    """The manifest in `output`.

    Raises:
        TaskDataError: it cannot be read.
    """
    path = output / MANIFEST
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not all(_is_entry(name, entry) for name, entry in found["stages"].items()):
            raise ValueError("no stages of a build")
        content = {BASE_CONTENT: found[BASE_CONTENT]} if BASE_CONTENT in found else {}
        return {
            "format": found["format"],
            BASE: found[BASE],
            **content,
            "tasks": found["tasks"],
            "stages": found["stages"],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TaskDataError(str(path), "is no manifest of a build", fix="Remove it; it is written anew.") from error


def _is_entry(name: str, entry: object) -> bool:
    """Whether this may be a stage as :func:`stage_entry` makes it."""
    return name in STAGES and isinstance(entry, dict) and entry.keys() >= {"recipe", "adapters", "versions"}


def stage_entry(stage: Stage, plan: BuildPlan, cards: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A stage in the manifest."""
    used = {json.dumps(card["versions"], sort_keys=True): card["versions"] for card in cards.values()}
    entry: dict[str, Any] = {"recipe": plan.recipe(stage.name).as_dict()}
    if stage.partition is not None:
        members = {name: list(names) for name, names in stage.partition.members.items()}
        entry["clusters"] = {**stage.partition.facts, "members": members}
    entry["adapters"] = {
        chosen.name: {
            "tasks": [task.name for task in chosen.tasks],
            "sha256": sha256_of(plan.folder(stage.name) / chosen.name / WEIGHTS),
            **{key: cards[chosen.name][key] for key in RESULTS},
        }
        for chosen in stage.sets
    }
    entry["versions"] = [used[key] for key in sorted(used)]
    return entry


def write_stage(output: Path, common: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> None:
    """Put one stage into the manifest; another stage of the build may be written by another process meanwhile.

    Raises:
        SettingsError: the output folder stays locked.
        TaskDataError: the manifest there is of another build.
    """
    with _locked(output):
        manifest = check_manifest(output, common)
        stages = {**manifest["stages"], name: entry}
        ordered = {stage: stages[stage] for stage in STAGES if stage in stages}
        write_json(output / MANIFEST, {**common, "stages": ordered})


def _locked(output: Path) -> ExitStack:
    until = time.monotonic() + PATIENCE
    while True:
        stack = ExitStack()
        try:
            stack.enter_context(folder_lock(output))
            return stack
        except SettingsError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
