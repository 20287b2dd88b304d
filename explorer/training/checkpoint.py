"""Where a training stands, on disk: weights, the optimiser's moments, the state of chance, and the step.

One safetensors file beside the adapter's place, replaced in one step every so often, so that a run killed at any
moment goes on from there and ends with exactly the weights of an undisturbed run. A file that is damaged (by
its own digest), or of another recipe, base model, data or version, counts as absent: training starts anew.
"""

from __future__ import annotations

import hashlib
import json
import math
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

from explorer.adapters.safetensors_header import read_header
from explorer.errors import AdapterFormatError
from explorer.training.whole_files import clear_scratch, scratch_beside

NOTE, DIGEST = "state", "sha256"
VALUE, CPU, GPU = "value", "chance.cpu", "chance.gpu"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's state for each weight
Weights = Mapping[str, torch.nn.Parameter]


def checkpoint_path(folder: Path) -> Path:
    """The checkpoint's place while the adapter in `folder` is not complete."""
    return folder.with_name(f".{folder.name}.checkpoint.safetensors")


@dataclass(frozen=True)
class State:
    """What a checkpoint holds."""

    step: int
    loss_before: float
    tensors: Mapping[str, Tensor]

    def fits(self, weights: Weights, steps: int) -> bool:
        """Whether this is a state that a training of just these weights in so many steps can have."""
        if type(self.step) is not int or not 0 < self.step <= steps:
            return False
        if type(self.loss_before) is not float or not math.isfinite(self.loss_before):
            return False
        known = {f"{name}.{part}" for name in weights for part in (VALUE, *MOMENTS)} | {CPU, GPU}
        states = all(self._fits(name, weight) for name, weight in weights.items())
        return states and self.tensors.keys() <= known and self._has_chance()

    def _fits(self, name: str, weight: Tensor) -> bool:
        """Whether a weight has a value, and all moments or none."""
        given = {part: self.tensors[key] for part in (VALUE, *MOMENTS) if (key := f"{name}.{part}") in self.tensors}
        step = given.pop("step", None)
        if step is not None and (step.shape or not step.is_floating_point() or not 1 <= float(step) <= self.step):
            return False
        alike = all(each.shape == weight.shape and each.dtype == weight.dtype for each in given.values())
        parts = {VALUE} if step is None else {VALUE, *MOMENTS} - {"step"}
        return given.keys() == parts and alike and all(each.isfinite().all() for each in given.values())

    def _has_chance(self) -> bool:
        """Whether the states of chance can be set; tried on generators of their own."""
        try:
            torch.Generator().set_state(self.tensors[CPU])
            if GPU in self.tensors and torch.cuda.is_available():
                torch.Generator("cuda").set_state(self.tensors[GPU])
        except (KeyError, RuntimeError, TypeError):
            return False
        return True

    def put_in(self, weights: Weights, optimiser: torch.optim.Optimizer) -> None:
        """Set weights, moments and chance to this state, which fits."""
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(self.tensors[f"{name}.{VALUE}"])
                if f"{name}.step" in self.tensors:
                    moments = {moment: self.tensors[f"{name}.{moment}"] for moment in MOMENTS}
                    optimiser.state[weight] = {
                        moment: value if moment == "step" else value.to(weight.device)
                        for moment, value in moments.items()
                    }
        torch.set_rng_state(self.tensors[CPU])
        if GPU in self.tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.tensors[GPU])


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

    def state(self, weights: Weights, steps: int) -> State | None:
        """What is stored of a training of these weights in so many steps; None where there is nothing to go on from."""
        try:
            read_header(self.path)  # no link and no pipe
            with safe_open(self.path, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            note = json.loads(facts[NOTE])
            state = State(note["step"], note["loss_before"], tensors)
            ours = note["identity"] == json.loads(json.dumps(self.identity))
            whole = ours and state.fits(weights, steps) and facts[DIGEST] == _digest(facts[NOTE], tensors)
        except (AdapterFormatError, OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return state if whole else None

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
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        note = json.dumps({"identity": self.identity, "step": step, "loss_before": loss_before})
        scratch = scratch_beside(self.path)
        # not by save_file: it has a temporary file of its own, which a kill would leave behind under an unknown name
        scratch.write_bytes(save(tensors, {NOTE: note, DIGEST: _digest(note, tensors)}))
        os.replace(scratch, self.path)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file, and what a killed run left half written."""
        self.path.unlink(missing_ok=True)
        clear_scratch(self.path)


def _digest(note: str, tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256(note.encode() + save(tensors)).hexdigest()


def removed(folder: Path) -> None:
    """Remove what is left of the training of a complete adapter."""
    Checkpoint(checkpoint_path(folder), {}, 0.0).remove()


def identity_of(
    name: str, base: Mapping[str, str], data: str, recipe: Mapping[str, object], versions: Mapping[str, str]
) -> Any:
    """What the state of a training depends on."""
    return {"format": 1, "name": name, **base, "data_sha256": data, "recipe": recipe, "versions": versions}
