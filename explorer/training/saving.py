"""A finished adapter on disk: weights, card and a page for readers, complete or not there at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import peft

from explorer.adapters.factors import WEIGHTS
from explorer.errors import SettingsError
from explorer.training.cards import CARD, WEIGHTS_HASH
from explorer.training.whole_files import clear_scratch, scratch_beside, sha256_of


def save_adapter(model: Any, name: str, card: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the adapter in float16 beside its place, then rename it into place in one step.

    Returns:
        The card as it was written: with the hash of the weights.

    Raises:
        SettingsError: a weight is beyond the range of float16.
    """
    clear_scratch(folder)
    partial = scratch_beside(folder)
    # Embeddings are never trained here; "auto" would ask the model hub about them at every save.
    state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    half = {key: value.half() for key, value in state.items()}
    if not all(value.isfinite().all() for value in half.values()):
        raise SettingsError(name, "training went astray: weights grew too large", fix="Lower the learning rate.")
    model.save_pretrained(partial, state_dict=half, save_embedding_layers=False)
    _settle_order(partial / "adapter_config.json")
    card = {**card, WEIGHTS_HASH: sha256_of(partial / WEIGHTS)}
    (partial / "README.md").write_text(_readme(name, card), encoding="utf-8")
    (partial / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    try:
        os.replace(partial, folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.is_dir():  # else a worker whose end was not yet noticed has put the same adapter there
            raise
    return card


def _settle_order(path: Path) -> None:
    """Sort the modules: PEFT writes a set, in another order in each process, and a run should give the same file."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _readme(name: str, card: dict[str, Any]) -> str:
    recipe, tasks = card["recipe"], [task["name"] for task in card["tasks"]]
    facts = {
        "base model": card["base_model"],
        "rank, alpha": f"{recipe['rank']}, {recipe['alpha']:g}",
        "modules": ", ".join(recipe["target_modules"]),
        "rows, steps": f"{card['train_rows']}, {card['steps']}",
        f"loss of the answer on {card['loss_rows']} {card['loss_split']} rows, before and after (nats per token)": (
            f"{card['loss_before']:.3f}, {card['loss_after']:.3f}"
        ),
        "seed": recipe["seed"],
    }
    table = "\n".join(f"| {label} | {value} |" for label, value in facts.items())
    listed = ", ".join(f"`{task}`" for task in tasks)
    trained_for = f"the task {listed}" if len(tasks) == 1 else f"{len(tasks)} tasks together: {listed}"
    return f"""---
base_model: {card["base_model"]}
library_name: peft
tags: [lora]
---
# {name}

A LoRA adapter for {trained_for} (family: {card["family"] or "none"}), trained with `python -m explorer`.

| | |
|---|---|
{table}
"""
