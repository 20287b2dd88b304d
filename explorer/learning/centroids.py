"""Centroid matching: the mean input that an adapter's own examples give, at each site (baseline "CM" of 2405.11157)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.learning.examples import encoded_prompts, tasks_by_adapter
from explorer.learning.inputs import last_inputs
from explorer.learning.learned import facts_of
from explorer.learning.progress import SILENT, Watch
from explorer.learning.vectors import LearnedVectors
from explorer.models.routed_model import RoutedModel
from explorer.routing.centroid import Centroid
from explorer.routing.per_site import PerSite
from explorer.routing.router import Router
from explorer.tasks.task import Task


@dataclass(frozen=True, eq=False)
class LearnedCentroids(LearnedVectors):
    """p_e for each site and adapter."""

    key: ClassVar[str] = Centroid.key
    title: ClassVar[str] = Centroid.title
    paper: ClassVar[str] = Centroid.paper
    needs: ClassVar[str] = Centroid.needs

    def router(self) -> Router:
        """Centroid matching over all adapters."""
        return Centroid(vectors=self.vectors, temperature=self.facts.settings.get("temperature", 1.0))


def learn_centroids(
    routed: RoutedModel,
    tasks: Sequence[Task],
    *,
    examples: int = 10,
    temperature: float = 1.0,
    chat: bool = True,
    seed: int = 0,
    watch: Watch = SILENT,
) -> LearnedCentroids:
    """p_e: the unit mean of h at the last prompt token, over `examples` training prompts of the adapter's own tasks.

    h is the input that the site has in the base model alone, without any adapter. An adapter of several tasks takes
    examples of each in turn. An adapter without examples is left out (weight 0). `temperature` is that of the router's
    softmax, on top of sqrt(d_in): on models whose inputs are short a small one is needed to tell adapters apart.

    Raises:
        LearningError: no adapter has examples.
        LearningStopped: `watch` said so.
        SettingsError: the temperature is out of its bounds.
    """
    Centroid(vectors=PerSite((), {}), temperature=temperature)  # refused now where it would be in the end
    own = tasks_by_adapter(routed, tasks)
    centres = []
    for done, (name, its) in enumerate(own.items()):
        watch.step(done, len(own), name)
        prompts = encoded_prompts(routed.base, its, examples, chat=chat, seed=seed)
        centres.append(_centres(routed, prompts))
    by_site = {
        site: torch.stack([centre[place] for centre in centres])
        for place, bank in enumerate(routed.banks)
        for site in bank.sites
    }
    used = [task for task in tasks if any(task in its for its in own.values())]
    settings = {"examples": examples, "temperature": temperature, "chat": chat, "seed": seed}
    return LearnedCentroids(facts_of(routed, tuple(own), used, settings), PerSite(tuple(own), by_site))


def _centres(routed: RoutedModel, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """For each bank the mean input over the prompts' last tokens, scaled to length 1."""
    inputs = [last_inputs(routed, ids) for ids in prompts]
    means = [torch.stack(of_bank).mean(dim=0) for of_bank in zip(*inputs, strict=True)]
    return [torch.nn.functional.normalize(mean, dim=0) for mean in means]
