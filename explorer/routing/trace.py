"""What a router did on one text: weights and raw scores for each site, token and adapter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RoutingTrace:
    """A record of one routed text, with the names that its axes stand for.

    Attributes:
        sites: adapted modules in natural order, length S.
        tokens: the text of each token as a reader would see it, length T.
        token_ids: their ids, length T.
        names: adapters, length E.
        weights: (S, T, E) float32; a row sums to 1 for a convex router.
        scores: (S, T, E) float32, raw; NaN where an adapter lacks the site.
        prompt_length: the first so many tokens are the prompt (template included), the others were generated.
        typed: for each token whether the user typed it (false: chat template) or the model generated it.
        router: the router in words, with its settings.
    """

    sites: tuple[str, ...]
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    names: tuple[str, ...]
    weights: Array
    scores: Array
    prompt_length: int
    typed: tuple[bool, ...]
    router: str

    def entropy(self) -> Array:
        """Shannon entropy (nats) of the weights, (S, T); 0 where nothing is active."""
        w = self.weights
        return -np.sum(np.where(w > 0, w * np.log(np.where(w > 0, w, 1.0)), 0.0), axis=-1).astype(np.float32)

    def effective_adapters(self) -> Array:
        """exp(entropy), (S, T): how many adapters share the work."""
        return np.exp(self.entropy())

    def extended(self, other: RoutingTrace) -> RoutingTrace:
        """This trace followed by the tokens of `other` (same sites and adapters)."""
        if (self.sites, self.names) != (other.sites, other.names):
            raise ValueError("traces of different sites or adapters cannot be joined")
        return replace(
            self,
            tokens=self.tokens + other.tokens,
            token_ids=self.token_ids + other.token_ids,
            weights=np.concatenate([self.weights, other.weights], axis=1),
            scores=np.concatenate([self.scores, other.scores], axis=1),
            typed=self.typed + other.typed,
        )
