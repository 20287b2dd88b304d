"""The static way: weights that are the same for every token make one update, prepared once."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from explorer.routing.adding import add_product
from explorer.routing.bank import Bank
from explorer.routing.router import FixedRouter, MergeRouter
from explorer.routing.routing_pass import RoutingPass, RowGroup
from explorer.routing.static_update import static_update
from explorer.routing.way import Way, decide


class StaticWay(Way):
    """One update for all tokens of one group."""

    def __init__(self, bank: Bank, group: RowGroup) -> None:
        self.bank, self.group, self.recorded = bank, group, []
        router = group.router
        assert isinstance(router, FixedRouter | MergeRouter)
        self._update = bank.memory.get(("static", router), lambda: static_update(router, bank))
        self._hidden: Tensor = bank.down
        self._inner: Tensor | None = None

    def read(self, hidden: Float[Tensor, "tokens d_in"], current: RoutingPass) -> None:
        """The products with the rows that read."""
        own = self.group.of(hidden)
        self._hidden, self._inner = own, self._update.inner(own)
        self.recorded = []
        decide(self.group, current.observe(self.bank, own), current, self.recorded)

    def add(self, site: int, output: Float[Tensor, "tokens d_out"]) -> None:
        """One product."""
        left, right = self._update.factors(site, self._hidden, self._inner)
        add_product(output, self.group.tokens, left, right)

    def release(self) -> None:
        """Let go of the input."""
        self.recorded = []
        self._hidden, self._inner = self.bank.down, None


class SilentWay(Way):
    """Nothing is added; what a router without adapters decides is noted all the same."""

    def __init__(self, bank: Bank, group: RowGroup) -> None:
        self.bank, self.group, self.recorded = bank, group, []

    def read(self, hidden: Float[Tensor, "tokens d_in"], current: RoutingPass) -> None:
        """Ask the router where somebody wants to know."""
        self.recorded = []
        decide(self.group, current.observe(self.bank, self.group.of(hidden)), current, self.recorded)

    def add(self, site: int, output: Float[Tensor, "tokens d_out"]) -> None:
        """Nothing."""
