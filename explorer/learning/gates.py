"""PHATGOOSE's gates: for each adapter one vector a site, trained after it and without the others (arXiv 2402.05859)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.learning.descent import Descent
from explorer.learning.examples import own_rows, tasks_by_adapter
from explorer.learning.learned import facts_of
from explorer.learning.mixing import Delta
from explorer.learning.progress import SILENT, Watch
from explorer.learning.vectors import LearnedVectors
from explorer.models.routed_model import RoutedModel
from explorer.routing.bank import Bank
from explorer.routing.per_site import PerSite
from explorer.routing.phatgoose import Phatgoose
from explorer.routing.router import Router
from explorer.tasks.task import Task


@dataclass(frozen=True, eq=False)
class LearnedGates(LearnedVectors):
    """v_e for each site and adapter."""

    key: ClassVar[str] = Phatgoose.key
    title: ClassVar[str] = Phatgoose.title
    paper: ClassVar[str] = Phatgoose.paper
    needs: ClassVar[str] = Phatgoose.needs

    def router(self) -> Router:
        """PHATGOOSE, top 2."""
        return Phatgoose(vectors=self.vectors)


def learn_gates(
    routed: RoutedModel,
    tasks: Sequence[Task],
    *,
    examples: int = 1000,
    steps: int = 100,
    batch_size: int = 8,
    learning_rate: float = 5e-3,
    max_tokens: int = 512,
    chat: bool = True,
    seed: int = 0,
    watch: Watch = SILENT,
) -> LearnedGates:
    """Train a gate for each adapter alone: output = W h + sigmoid(v . h) dW h, base and adapter frozen, v from 0.

    An adapter without examples is left out (weight 0); at a site that an adapter lacks its gate stays 0.

    Args:
        routed: a base model with a library.
        tasks: those at hand; each adapter learns from the training rows of its own, several take turns.
        examples: rows for each adapter.
        steps: for each adapter.
        batch_size: rows a step.
        learning_rate: of Adam.
        max_tokens: longer rows are left out.
        chat: put the prompts into the chat template.
        seed: of the choice and order of rows.
        watch: progress and stop.

    Raises:
        LearningError: no adapter has examples, or a loss is no number.
        LearningStopped: `watch` said so.
        SettingsError: a number is out of its bounds.
    """
    own = tasks_by_adapter(routed, tasks)
    descent = Descent(steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    gates, first, last = [], [], []
    for done, (name, its) in enumerate(own.items()):
        rows = own_rows(routed.base, its, examples, chat=chat, seed=seed, longest=max_tokens)
        adapter = routed.names.index(name)
        gate = new_gate(routed, adapter)
        told = _told(watch, done * steps, len(own) * steps, name)
        losses = descent.run(routed, rows, list(gate.values()), gated(adapter, gate), told)
        gates.append(_complete(routed, gate))
        first.append(losses[0])
        last.append(losses[-1])
    by_site = {site: torch.stack([gate[site] for gate in gates]) for site in gates[0]}
    used = [task for task in tasks if any(task in its for its in own.values())]
    settings = {
        "examples": examples, "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate,
        "max_tokens": max_tokens, "chat": chat, "seed": seed,
    }  # fmt: skip
    results = {"mean_loss_of_first_batch": sum(first) / len(first), "mean_loss_of_last_batch": sum(last) / len(last)}
    return LearnedGates(facts_of(routed, tuple(own), used, settings, results=results), PerSite(tuple(own), by_site))


def _told(watch: Watch, before: int, total: int, name: str) -> Callable[[int], None]:
    """One adapter's steps told as part of all."""
    return lambda step: watch.step(before + step, total, name)


def new_gate(routed: RoutedModel, adapter: int) -> dict[str, Tensor]:
    """A vector of zeros, to be trained, for each site that the adapter (by its index) has."""
    return {
        site: torch.zeros(bank.down.shape[1], device=bank.down.device, requires_grad=True)
        for bank in routed.banks
        for index, site in enumerate(bank.sites)
        if bool(bank.present[index, adapter])
    }


def gated(adapter: int, gate: Mapping[str, Tensor]) -> Delta:
    """sigmoid(v . h) dW h for one adapter, nothing where it lacks the site."""

    def delta(bank: Bank, index: int, hidden: Tensor) -> Tensor | None:
        vector = gate.get(bank.sites[index])
        if vector is None:
            return None
        down, up = bank.update(index, adapter)
        opened = torch.sigmoid(hidden.float() @ vector)[..., None]
        return opened.to(down.dtype) * ((hidden.to(down.dtype) @ down.T) @ up)

    return delta


def _complete(routed: RoutedModel, gate: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trained vectors, zeros at the sites that the adapter lacks."""
    return {
        site: gate[site].detach().cpu() if site in gate else torch.zeros(bank.down.shape[1])
        for bank in routed.banks
        for site in bank.sites
    }
