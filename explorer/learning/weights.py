"""Learned weights for one target task, the same for every token of it: what LoraHub and the learned mixture keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from explorer.adapters.library import Library
from explorer.learning.learned import Facts, Learned, routable_sites, same_names
from explorer.models.routed_model import RoutedModel
from explorer.routing.per_site import PerSite
from explorer.routing.router import Router
from explorer.routing.site_weights import SiteWeights


@dataclass(frozen=True, eq=False)
class LearnedWeights(Learned):
    """A weight for each site and adapter."""

    weights: PerSite

    def tensors(self) -> Mapping[str, Tensor]:
        """The weights (adapters,) of each site."""
        return self.weights.rows

    @classmethod
    def of_tensors(cls, facts: Facts, tensors: Mapping[str, Tensor], library: Library) -> Self:
        """The way back."""
        same_names(tensors, {site: (len(facts.names),) for site in routable_sites(library)})
        return cls(facts, PerSite(facts.names, dict(tensors)))

    def router_for(self, prompt: str | Sequence[int], routed: RoutedModel) -> Router:
        """The same for every prompt."""
        self.check(routed)
        return self.router()

    def router(self) -> SiteWeights:
        """The weights as a router."""
        return SiteWeights(weights=self.weights, named=self.label)
