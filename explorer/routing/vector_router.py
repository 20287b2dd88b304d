"""Routers whose vectors were learned from examples: each token is compared with one vector an adapter and site.

What is learned, and how, is the business of `explorer/learning/`; here is what is done with it at each token.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.routing.bank import Bank
from explorer.routing.observation import Observation
from explorer.routing.per_site import PerSite
from explorer.routing.router import Kept
from explorer.routing.top_k import Reads, TopKRouter, softmax_of_largest


class VectorRouter(TopKRouter):
    """Softmax over the `top_k` largest <x(h), y(v_e)> / sqrt(d_in), x and y as the subclass has them.

    An adapter that nothing was learned for has no score (NaN) and never any weight.

    Attributes:
        vectors: v_e for each site and adapter.
    """

    reads: ClassVar[Reads] = "vectors"
    vectors: PerSite

    @abstractmethod
    def of_input(self, hidden: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_in"]:
        """What of an input is compared."""

    @abstractmethod
    def of_vector(self, vectors: Float[Tensor, "rows d_in"]) -> Float[Tensor, "rows d_in"]:
        """What of a vector it is compared with."""

    def score(self, seen: Observation) -> Float[Tensor, "tokens sites adapters"]:
        """As above; NaN for an adapter that nothing was learned for."""
        ready = seen.bank.memory.get(self, lambda: self._ready(seen.bank))
        return (self.of_input(seen.hidden.float()) @ ready.T).view(seen.shape)

    def _ready(self, bank: Bank) -> Float[Tensor, "pairs d_in"]:
        rows = torch.cat([self.vectors.at(site, bank.names, math.nan) for site in bank.sites])
        return (self.of_vector(rows) / math.sqrt(rows.shape[1])).to(bank.down.device)

    def keep(self, scores: Float[Tensor, "tokens sites adapters"], seen: Observation) -> Kept:
        """Softmax over the top k of the adapters that have a score; no weight where none has."""
        kept = softmax_of_largest(scores.masked_fill(scores.isnan(), -math.inf), self.top_k, self.temperature, seen)
        return Kept(kept.adapters, kept.weights.nan_to_num(nan=0.0))

    def check(self, names: tuple[str, ...]) -> None:
        """Raise SettingsError, with the names there are, if a vector is for an adapter not among `names`."""
        self.vectors.check(names)
