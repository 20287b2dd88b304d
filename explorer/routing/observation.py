"""What a router may look at: the inputs of one bank's modules, and what the library's directions say of them.

Everything is computed when it is first asked for, and once: Arrow needs one number for each adapter, SpectR one for
each direction, and where the mixture needs the latter anyway the former are among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.errors import ExplorerError
from explorer.routing.bank import Bank
from explorer.routing.dots import chosen_dots
from explorer.routing.loops import NOTHING, loops_for


@dataclass(eq=False)
class Observation:
    """T input vectors of one bank.

    Attributes:
        bank: the adapters.
        hidden: the inputs, as they are.
        neutral: for each (site, adapter) the mean of Arrow's score over neutral prompts, where it was measured.
        inner: <row of down, h> for all rows, where it is there already.
    """

    bank: Bank
    hidden: Float[Tensor, "tokens d_in"]
    neutral: Float[Tensor, "sites adapters"] | None = None
    inner: Float[Tensor, "tokens rows"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(tokens, sites, adapters)."""
        return self.hidden.shape[0], len(self.bank.sites), len(self.bank.names)

    def activations(self) -> Float[Tensor, "tokens rows"]:
        """<row of down, h>, in the dtype of the bank; the last one is 0."""
        if self.inner is None:
            self.inner = self.bank.read(self.hidden)
        return self.inner

    @cached_property
    def along(self) -> Float[Tensor, "tokens sites adapters"]:
        """|<h, p_e>| for Arrow's prototypes, float32."""
        if self.inner is not None and self.inner.dtype == torch.float32:
            scores = self._in_a_loop(self.inner, all_rows=False)
            return self.inner.index_select(1, self.bank.firsts).abs_().view(self.shape) if scores is None else scores
        return (self.hidden.float() @ self.bank.directions.T).abs_().view(self.shape)

    @cached_property
    def strengths(self) -> Float[Tensor, "tokens sites adapters"]:
        """||V_e^T h||, the length of h within each update's input space, float32."""
        scores = self._in_a_loop(self.activations(), all_rows=True)
        if scores is not None:
            return scores
        squares = self.activations().float().square()
        tokens, sites, adapters = self.shape
        sums = squares.new_zeros(tokens, sites * adapters).index_add_(1, self.bank.owners, squares)
        return sums.sqrt_().view(self.shape)

    def _in_a_loop(self, inner: Tensor, all_rows: bool) -> Tensor | None:
        """Scores from products that are there, where compiled loops suit them."""
        loops = loops_for(inner, inner.numel())
        if loops is None:
            return None
        scores = inner.new_empty(self.shape)
        flat = scores.numpy().reshape(len(scores), -1)
        loops.pair_scores(inner.numpy(), self.bank.arrays.table, all_rows, NOTHING, NOTHING, flat)
        return scores

    @cached_property
    def lengths(self) -> Float[Tensor, "tokens 1 1"]:
        """||h||, float32, at least a tiny number."""
        return self.hidden.float().norm(dim=-1).clamp_min(1e-12)[:, None, None]

    def expected(self) -> Float[Tensor, "sites adapters"]:
        """Arrow's mean score on neutral prompts."""
        if self.neutral is None:
            raise ExplorerError(
                "Calibrated Arrow", "has no neutral prompts to go by here", fix="Use it through a RoutedModel."
            )
        return self.neutral

    def at_rows(self, rows: Int[Tensor, "tokens chosen"]) -> Float[Tensor, "tokens chosen"]:
        """<row of down, h> for chosen rows of each token."""
        if self.inner is not None:
            return self.inner.gather(1, rows)
        return chosen_dots(self.hidden.to(self.bank.down.dtype), self.bank.down, rows)
