"""Softmax over the few largest scores: how Arrow, SpectR and their kin turn scores into weights.

Routers of this kind only say how they score (:class:`TopKRouter`), so that the few numbers of one token can go through
one compiled loop, and the many of a prompt through tensor operations, with the same result.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.routing.loops import NOTHING, loops_for
from explorer.routing.observation import Observation
from explorer.routing.router import Kept, ScoreRouter

Reads = Literal["first direction", "all directions", "vectors"]


class TopKRouter(ScoreRouter):
    """Softmax over the `top_k` largest scores, where a score says how much of the input an adapter's directions hold.

    Adapters that lack the site are left out, and `top_k` is clamped to those that have it. Equal scores go to the
    adapter that stands first in the library.

    Attributes:
        reads: the strongest direction of an update, all of them, or vectors of the router's own (:meth:`score`).
        top_k, temperature, per_prompt: settings of every such router.
    """

    reads: ClassVar[Reads] = "first direction"
    top_k: int
    temperature: float
    per_prompt: bool

    @property
    def most_kept(self) -> int:
        """Top k."""
        return self.top_k

    @property
    def decides_per_prompt(self) -> bool:
        """As set."""
        return self.per_prompt

    @property
    def is_one_loop(self) -> bool:
        """Whether scores, weights and products of a few tokens can be had in one compiled loop."""
        return self.reads != "vectors" and not self.per_prompt

    @property
    def by_length(self) -> bool:
        """Whether scores are divided by the length of the input."""
        return False

    def scale(self, seen: Observation) -> Float[Tensor, "sites adapters"] | None:
        """What each adapter's score is multiplied by at each site."""
        return None

    def score(self, seen: Observation) -> Float[Tensor, "tokens sites adapters"]:
        """As `reads`, `scale` and `by_length` say."""
        scores = seen.strengths if self.reads == "all directions" else seen.along
        scale = self.scale(seen)
        scores = scores if scale is None else scores * scale
        return scores / seen.lengths if self.by_length else scores

    def keep(self, scores: Float[Tensor, "tokens sites adapters"], seen: Observation) -> Kept:
        """Softmax over the top k."""
        return softmax_of_largest(scores, self.top_k, self.temperature, seen)


def largest(scores: Float[Tensor, "tokens sites adapters"], top_k: int, seen: Observation) -> Kept:
    """The `top_k` adapters with the largest scores at each site, with their scores for weights.

    Adapters that lack a site come last, with a score of minus infinity. Torch leaves the order of equal scores open
    unless the sort is stable, which only matters where two adapters always score alike.
    """
    bank = seen.bank
    ranked = scores if bank.complete else scores.masked_fill(~bank.present, -math.inf)
    count = min(top_k, len(bank.names))
    if bank.twins:
        values, order = ranked.sort(dim=-1, descending=True, stable=True)
        return Kept(order[..., :count], values[..., :count])
    values, order = ranked.topk(count, dim=-1)
    return Kept(order, values)


def softmax_of_largest(
    scores: Float[Tensor, "tokens sites adapters"], top_k: int, temperature: float, seen: Observation
) -> Kept:
    """softmax(scores / temperature) over the `top_k` largest at each site; no weight where nobody has the site."""
    loops = loops_for(scores, scores.numel())
    if loops is not None:
        return _softmax_in_loops(loops, scores, top_k, temperature, seen)
    kept = largest(scores, top_k, seen)
    values = kept.weights if temperature == 1 else kept.weights / temperature
    weights = torch.softmax(values, dim=-1)
    if not seen.bank.complete:
        weights = torch.where(kept.weights > -math.inf, weights, 0.0)
    return Kept(kept.adapters, weights)


def _softmax_in_loops(loops: Any, scores: Tensor, top_k: int, temperature: float, seen: Observation) -> Kept:
    tokens, sites, adapters = scores.shape
    ranked = scores if seen.bank.complete else scores.masked_fill(~seen.bank.present, -math.inf)
    adapters_kept = torch.zeros((tokens * sites, min(top_k, adapters)), dtype=torch.int64)
    weights = scores.new_empty(adapters_kept.shape)
    rows = ranked.reshape(tokens * sites, adapters).contiguous()
    loops.largest_softmax(rows.numpy(), temperature, adapters_kept.numpy(), weights.numpy())
    return Kept(adapters_kept.view(tokens, sites, -1), weights.view(tokens, sites, -1))


def scale_for_loops(router: TopKRouter, seen: Observation) -> Any:
    """A router's scale as the compiled loops take it: one number a (site, adapter), or none."""
    scale = router.scale(seen)
    return NOTHING if scale is None else scale.numpy().reshape(-1)


def lengths_for_loops(router: TopKRouter, seen: Observation) -> Any:
    """The lengths of the inputs where the router divides by them, or none."""
    return seen.lengths.numpy().reshape(-1) if router.by_length else NOTHING
