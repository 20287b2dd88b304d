"""A learned mixture: one weight for each adapter and layer, by gradient on a few examples of one task (Poly's way).

The weights of a layer are a softmax, so they stay a mixture: not negative, summing to 1, uniform at the start. With a
few examples that is the safer choice; whoever wants free weights has LoraHub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.analysis.sites import layer_label
from explorer.errors import SettingsError
from explorer.learning.descent import Descent
from explorer.learning.examples import few_shot
from explorer.learning.learned import facts_of
from explorer.learning.mixing import Delta, mean_loss, mixture, nothing
from explorer.learning.progress import SILENT, Watch
from explorer.learning.weights import LearnedWeights
from explorer.models.routed_model import RoutedModel
from explorer.routing.bank import Bank
from explorer.routing.per_site import PerSite
from explorer.tasks.task import Task

GROUPINGS = ("layer", "module")


@dataclass(frozen=True, eq=False)
class LearnedMixture(LearnedWeights):
    """Weights of each site that sum to 1."""

    key: ClassVar[str] = "mixture"
    title: ClassVar[str] = "Learned mixture"
    paper: ClassVar[str] = "https://arxiv.org/abs/2202.13914"
    needs: ClassVar[str] = "a few examples of the target task"


def learn_mixture(
    routed: RoutedModel,
    target: Task,
    *,
    examples: int = 16,
    steps: int = 50,
    batch_size: int = 8,
    learning_rate: float = 0.1,
    per: str = "layer",
    max_tokens: int = 512,
    chat: bool = True,
    seed: int = 0,
    watch: Watch = SILENT,
) -> LearnedMixture:
    """Learn the softmax weights of all adapters at each layer, base model and adapters frozen, from uniform ones.

    Args:
        routed: a base model with a library.
        target: the task; its validation rows, else its training rows, give the examples.
        examples: how many.
        steps: of Adam.
        batch_size: rows a step.
        learning_rate: of Adam, for the logits of the softmax.
        per: "layer" (one decision for all modules of a layer) or "module".
        max_tokens: longer rows are left out.
        chat: put the prompts into the chat template.
        seed: of the choice and order of rows.
        watch: progress and stop.

    Raises:
        LearningError: the task has no such rows, or the loss is no number.
        LearningStopped: `watch` said so.
        SettingsError: a setting is out of its bounds.
    """
    if per not in GROUPINGS:
        raise SettingsError("per", expected=" or ".join(GROUPINGS), found=repr(per)[:40])
    descent = Descent(steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    rows = few_shot(routed.base, target, examples, chat=chat, seed=seed, longest=max_tokens)
    group_of = {site: layer_label(site) if per == "layer" else site for site in routed.sites}
    logits = {
        group: torch.zeros(len(routed.names), device=routed.base.device, requires_grad=True)
        for group in dict.fromkeys(group_of.values())
    }
    delta = mixed(group_of, logits)
    uniform = mean_loss(routed, rows, delta, batch_size)
    descent.run(routed, rows, list(logits.values()), delta, lambda done: watch.step(done, steps, target.name))
    results = {
        "loss_before": mean_loss(routed, rows, nothing, batch_size),
        "loss_of_uniform": uniform,
        "loss_after": mean_loss(routed, rows, delta, batch_size),
    }
    settings = {
        "examples": examples, "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "per": per,
        "max_tokens": max_tokens, "chat": chat, "seed": seed,
    }  # fmt: skip
    facts = facts_of(routed, routed.names, [target], settings, target=target.name, results=results)
    weights = {site: torch.softmax(logits[group].detach(), dim=0).cpu() for site, group in group_of.items()}
    return LearnedMixture(facts, PerSite(routed.names, weights))


def mixed(group_of: Mapping[str, str], logits: Mapping[str, Tensor]) -> Delta:
    """The mixture by the softmax of each site's group."""

    def delta(bank: Bank, index: int, hidden: Tensor) -> Tensor:
        return mixture(bank, index, hidden, torch.softmax(logits[group_of[bank.sites[index]]], dim=0))

    return delta
