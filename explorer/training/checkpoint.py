"""Where a training stands, on disk: weights, the optimiser's moments, the state of chance, and the step.

One safetensors file beside the adapter's place, replaced in one step every so often, so that a run killed at any
moment goes on from there and ends with exactly the weights of an undisturbed run. A file that is damaged, or of
another recipe, base model, data or version, counts as absent.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from explorer.training.whole_files import clear_scratch, scratch_beside

NOTE = "state"
VALUE, CPU, GPU = "value", "chance.cpu", "chance.gpu"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's state for each weight
Weights = Mapping[str, torch.nn.Parameter]


def checkpoint_path(folder: Path) -> Path:
    """The checkpoint's place while the adapter in `folder` is not complete."""
    return folder.with_name(f".{folder.name}.checkpoint.safetensors")


@dataclass
class Checkpoint:
    """The checkpoint of one adapter.

    Args:
        path: the file.
        identity: everything the weights depend on, as JSON data; a file of another identity is not read.
        every: seconds between two writings.
    """

    path: Path
    identity: Mapping[str, object]
    every: float
    _written: float = field(default_factory=time.monotonic)

    def note(self) -> tuple[int, float] | None:
        """Step and loss before training of what is stored; None where there is nothing to go on from."""
        try:
            with safe_open(self.path, framework="pt") as file:
                data = json.loads((file.metadata() or {})[NOTE])
            if data["identity"] != json.loads(json.dumps(self.identity)):
                return None
            return int(data["step"]), float(data["loss_before"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None

    def restore(self, weights: Weights, optimiser: torch.optim.Optimizer) -> bool:
        """Set weights, moments and chance to what is stored; false (and nothing changed) where it does not fit."""
        try:
            stored = _tensors(self.path)
            if not _fits(stored, weights):
                return False
        except (OSError, SafetensorError, ValueError, KeyError):
            return False
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(stored[f"{name}.{VALUE}"])
                moments = {moment: stored[key] for moment in MOMENTS if (key := f"{name}.{moment}") in stored}
                if moments:
                    optimiser.state[weight] = {
                        moment: value if moment == "step" else value.to(weight.device)
                        for moment, value in moments.items()
                    }
        torch.set_rng_state(stored[CPU])
        if GPU in stored and torch.cuda.is_available():
            torch.cuda.set_rng_state(stored[GPU])
        return True

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written >= self.every

    def write(self, weights: Weights, optimiser: torch.optim.Optimizer, step: int, loss_before: float) -> None:
        """Replace the file by the present state after `step` steps."""
        tensors: dict[str, Tensor] = {CPU: torch.get_rng_state()}
        if any(weight.is_cuda for weight in weights.values()):
            tensors[GPU] = torch.cuda.get_rng_state()
        for name, weight in weights.items():
            tensors[f"{name}.{VALUE}"] = weight.detach()
            state = optimiser.state.get(weight, {})
            tensors |= {f"{name}.{moment}": state[moment] for moment in MOMENTS if moment in state}
        note = {"identity": self.identity, "step": step, "loss_before": loss_before}
        scratch = scratch_beside(self.path)
        # not by save_file: it has a temporary file of its own, which a kill would leave behind under an unknown name
        raw = save({name: value.contiguous() for name, value in tensors.items()}, {NOTE: json.dumps(note)})
        scratch.write_bytes(raw)
        os.replace(scratch, self.path)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file, and what a killed run left half written."""
        self.path.unlink(missing_ok=True)
        clear_scratch(self.path)


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping


def _fits(stored: Mapping[str, Tensor], weights: Weights) -> bool:
    """Whether these are a state of just these weights."""
    known = {CPU, GPU}
    for name, weight in weights.items():
        value = stored.get(f"{name}.{VALUE}")
        if value is None or value.shape != weight.shape or value.dtype != weight.dtype:
            return False
        known |= {f"{name}.{part}" for part in (VALUE, *MOMENTS)}
    alike = torch.get_rng_state()
    chance = stored.get(CPU)
    return set(stored) <= known and chance is not None and (chance.shape, chance.dtype) == (alike.shape, alike.dtype)


def removed(folder: Path) -> None:
    """Remove what is left of the training of a complete adapter."""
    Checkpoint(checkpoint_path(folder), {}, 0.0).remove()


def identity_of(name: str, base: str, data: str, recipe: Mapping[str, object], versions: Mapping[str, str]) -> Any:
    """What the state of a training depends on."""
    return {"format": 1, "name": name, "base_model": base, "data_sha256": data, "recipe": recipe, "versions": versions}
