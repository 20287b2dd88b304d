"""The way of the paper's own code: (sum_e w_e B_e)(sum_e w_e A_e) h, the factors mixed instead of the outputs."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from explorer.routing.adding import add_product
from explorer.routing.bank import Bank
from explorer.routing.factor_mean import factor_means
from explorer.routing.router import ScoreRouter
from explorer.routing.routing_pass import RoutingPass, RowGroup
from explorer.routing.way import Way, decide, keep


class FactorWay(Way):
    """Averaged factors for the tokens of one group."""

    def __init__(self, bank: Bank, group: RowGroup) -> None:
        self.bank, self.group, self.recorded = bank, group, []
        self._products: Sequence[tuple[Tensor, Tensor]] = ()

    def read(self, hidden: Float[Tensor, "tokens d_in"], current: RoutingPass) -> None:
        """The averaged A's product with the input, times each adapter's weight."""
        self.recorded = []
        seen = current.observe(self.bank, self.group.of(hidden))
        if isinstance(self.group.router, ScoreRouter):
            weights = keep(self.group, seen, current, self.recorded).dense(len(self.bank.names))
        else:
            weights = self.group.router.decide(seen).weights
            decide(self.group, seen, current, self.recorded)
        stored = current.factors[self.bank.sites]
        self._products = [factor_means(own, seen.hidden, weights[:, site]) for site, own in enumerate(stored)]

    def add(self, site: int, output: Float[Tensor, "tokens d_out"]) -> None:
        """One product with all B."""
        add_product(output, self.group.tokens, *self._products[site])

    def release(self) -> None:
        """Let go of the products."""
        self.recorded = []
        self._products = ()
