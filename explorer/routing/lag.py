"""LAG: Arrow makes the short list, SpectR's score picks one adapter from it (arXiv 2507.05346)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.routing.loops import loops_for
from explorer.routing.observation import Observation
from explorer.routing.router import Kept, ScoreRouter
from explorer.routing.setting import check_settings, top_k_setting
from explorer.routing.top_k import largest


@dataclass(frozen=True, kw_only=True)
class Lag(ScoreRouter):
    """Of the `top_k` adapters with the largest |<h, p_e>|, the one with the largest ||V_e^T h||, alone.

    With a short list of one this is Arrow's top 1, with a list of all it is SpectR's. The raw scores shown are
    Arrow's, those that make the list.

    Args:
        top_k: length of the short list.

    Raises:
        SettingsError: a setting is out of its bounds.
    """

    key: ClassVar[str] = "lag"
    title: ClassVar[str] = "LAG"
    summary: ClassVar[str] = "Arrow makes a short list; the one adapter that reads most of the input is used alone."
    paper: ClassVar[str] = "https://arxiv.org/abs/2507.05346"

    top_k: int = top_k_setting(20, "Short list", "How many adapters Arrow leaves to choose the one from.")

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def label(self) -> str:
        """In words."""
        return f"LAG, the best of Arrow's top {self.top_k}"

    @property
    def most_kept(self) -> int:
        """One."""
        return 1

    def score(self, seen: Observation) -> Float[Tensor, "tokens sites adapters"]:
        """Arrow's."""
        return seen.along

    def keep(self, scores: Float[Tensor, "tokens sites adapters"], seen: Observation) -> Kept:
        """The strongest of the short list, with weight 1."""
        loops = loops_for(scores, scores.numel())
        if loops is not None:
            return self._in_loops(loops, scores, seen)
        listed = largest(scores, self.top_k, seen)
        there = listed.weights > -math.inf
        # in the library's order, so that equal strengths go to the adapter that stands first
        order, place = torch.where(there, listed.adapters, len(seen.bank.names)).sort(dim=-1)
        strengths = seen.strengths.gather(-1, order.clamp_max(len(seen.bank.names) - 1))
        best = strengths.masked_fill(~there.gather(-1, place), -math.inf).argmax(dim=-1, keepdim=True)
        chosen = order.gather(-1, best).clamp_max(len(seen.bank.names) - 1)
        return Kept(chosen, there.any(dim=-1, keepdim=True).float())

    def _in_loops(self, loops: Any, scores: Tensor, seen: Observation) -> Kept:
        tokens, sites, adapters = scores.shape
        kept = torch.zeros((tokens, sites, 1), dtype=torch.int64)
        weights = scores.new_empty(kept.shape)
        loops.strongest_of_list(
            scores.contiguous().numpy().reshape(tokens, -1),
            seen.strengths.numpy().reshape(tokens, -1),
            seen.bank.arrays.present,
            min(self.top_k, adapters),
            kept.numpy(),
            weights.numpy(),
        )
        return Kept(kept, weights)
