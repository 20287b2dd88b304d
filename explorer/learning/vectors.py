"""Learned vectors, one a site and adapter: what centroid matching and PHATGOOSE keep."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from explorer.adapters.library import Library
from explorer.learning.learned import Facts, Learned, routable_sites, same_names
from explorer.models.routed_model import RoutedModel
from explorer.routing.per_site import PerSite
from explorer.routing.router import Router


@dataclass(frozen=True, eq=False)
class LearnedVectors(Learned):
    """A vector of the site's input width for each site and adapter."""

    vectors: PerSite

    @abstractmethod
    def router(self) -> Router:
        """The router that compares tokens with these vectors."""

    def tensors(self) -> Mapping[str, Tensor]:
        """A matrix (adapters, d_in) for each site."""
        return self.vectors.rows

    @classmethod
    def of_tensors(cls, facts: Facts, tensors: Mapping[str, Tensor], library: Library) -> Self:
        """The way back."""
        count = len(facts.names)
        same_names(tensors, {site: (count, width) for site, width in routable_sites(library).items()})
        return cls(facts, PerSite(facts.names, dict(tensors)))

    def router_for(self, prompt: str | Sequence[int], routed: RoutedModel) -> Router:
        """The same for every prompt."""
        self.check(routed)
        return self.router()
