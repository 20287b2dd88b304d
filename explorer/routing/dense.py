"""The dense way: one product with all rows that read, each row's weight, one product with all rows that write.

For few adapters, and for many tokens. While a model writes, a step has so little to compute that the calls themselves
cost most: buffers are kept between steps, and what stands between the two products is one compiled loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explorer.routing.adding import add_product
from explorer.routing.bank import Bank
from explorer.routing.loops import NOTHING, loops_for
from explorer.routing.router import FixedRouter, Kept, decision_of
from explorer.routing.routing_pass import RoutingPass, RowGroup
from explorer.routing.top_k import TopKRouter, lengths_for_loops, scale_for_loops
from explorer.routing.way import Recorded, Way, decide, keep


class DenseWay(Way):
    """All rows of the bank for the tokens of one group, or of a whole batch where several groups go this way.

    Args:
        bank: the adapters.
        groups: who goes this way; routers with fixed weights may be among them.
        rows: of the batch.
        tokens: of each row.
    """

    def __init__(self, bank: Bank, groups: Sequence[RowGroup], rows: int, tokens: int) -> None:
        self.bank, self.recorded = bank, []
        self._own = groups[0] if len(groups) == 1 else None
        self._tokens = self._own.tokens if self._own else None
        count = (len(groups[0].rows) if self._own else rows) * tokens
        loops = loops_for(bank.down, count * len(bank.down))
        self._inner = None if loops is None else bank.down.new_empty(count, len(bank.down))
        self._kept = None if self._inner is None else torch.zeros_like(self._inner)
        self._parts = _by_site(bank, self._kept)
        self._weighers = [
            _weigher(loops, bank, group, None if self._own else group.tokens, self._inner, self._kept)
            for group in groups
        ]

    def read(self, hidden: Float[Tensor, "tokens d_in"], current: RoutingPass) -> None:
        """Products with all rows, each times the weight of its adapter."""
        if self._tokens is not None:
            hidden = hidden[self._tokens]
        inner = self.bank.read(hidden, self._inner)
        weighted = self._kept
        if weighted is None:
            weighted = torch.zeros_like(inner)
            self._parts = _by_site(self.bank, weighted)
        self.recorded = []
        for weigher in self._weighers:
            weigher.weigh(hidden, inner, weighted, current, self.recorded)

    def add(self, site: int, output: Float[Tensor, "tokens d_out"]) -> None:
        """One product with the rows that write."""
        add_product(output, self._tokens, self._parts[site], self.bank.ups[site])

    def release(self) -> None:
        """Let go of what was not made to be kept."""
        self.recorded = []
        if self._kept is None:
            self._parts = []


def _by_site(bank: Bank, weighted: Tensor | None) -> list[Tensor]:
    return [] if weighted is None else [weighted[:, span] for span in bank.spans]


class _Weigher:
    """Weighs the products of one group's tokens, in general: with torch, for any router."""

    def __init__(self, bank: Bank, group: RowGroup, tokens: Any) -> None:
        self.bank, self.group = bank, group
        self._where = slice(None) if tokens is None else tokens

    def weigh(self, hidden: Tensor, inner: Tensor, weighted: Tensor, current: RoutingPass, recorded: Recorded) -> None:
        """Fill in the group's part of `weighted`."""
        own = inner[self._where]
        seen = current.observe(self.bank, hidden[self._where], own)
        kept = keep(self.group, seen, current, recorded)
        loops = loops_for(own, own.numel())
        if loops is not None and isinstance(self._where, slice):
            arrays = self.bank.arrays.table, kept.adapters.contiguous().numpy(), kept.weights.contiguous().numpy()
            loops.weigh_rows(own.numpy(), *arrays, weighted[self._where].numpy())
            return
        by_row = kept.dense(len(self.bank.names)).reshape(len(own), -1).index_select(1, self.bank.owners)
        weighted[self._where] = own * by_row.to(own.dtype)


class _ConstantWeigher(_Weigher):
    """The same weights for every token."""

    def __init__(self, bank: Bank, group: RowGroup, tokens: Any) -> None:
        super().__init__(bank, group, tokens)
        assert isinstance(group.router, FixedRouter)
        self._by_row = group.router.weights_at(bank).flatten()[bank.owners].to(bank.down.dtype)

    def weigh(self, hidden: Tensor, inner: Tensor, weighted: Tensor, current: RoutingPass, recorded: Recorded) -> None:
        """Each row's own factor."""
        weighted[self._where] = inner[self._where] * self._by_row
        decide(self.group, current.observe(self.bank, hidden[self._where]), current, recorded)


class _LoopWeigher(_Weigher):
    """Scores, softmax and weights of a few tokens in one compiled loop, from buffers and into buffers."""

    def __init__(self, loops: Any, bank: Bank, group: RowGroup, tokens: Any, inner: Tensor, weighted: Tensor) -> None:
        super().__init__(bank, group, tokens)
        router = group.router
        assert isinstance(router, TopKRouter)
        self._router, self._route = router, loops.route
        own = inner[self._where].numpy()
        shape = len(own), len(bank.sites), min(router.top_k, len(bank.names))
        self._kept, self._weights = np.zeros(shape, np.int64), np.empty(shape, np.float32)
        self._scores = np.empty((len(own), len(bank.sites) * len(bank.names)), np.float32)
        rule = router.reads == "all directions", router.temperature
        self._asked = own, bank.arrays.table, bank.arrays.present, *rule
        self._results = self._scores, self._kept, self._weights, weighted[self._where].numpy()
        self._scale: Any = None

    def weigh(self, hidden: Tensor, inner: Tensor, weighted: Tensor, current: RoutingPass, recorded: Recorded) -> None:
        """One call."""
        router = self._router
        if self._scale is None:
            self._scale = scale_for_loops(router, current.observe(self.bank, hidden[self._where]))
        lengths = NOTHING
        if router.by_length:
            lengths = lengths_for_loops(router, current.observe(self.bank, hidden[self._where]))
        self._route(*self._asked, self._scale, lengths, *self._results)
        if current.wants(self.group):
            kept = Kept(torch.tensor(self._kept), torch.tensor(self._weights))
            raw = torch.tensor(self._scores).view(len(self._scores), len(self.bank.sites), -1)
            recorded.append((self.group, lambda: decision_of(kept, raw, self.bank)))


def _weigher(
    loops: Any, bank: Bank, group: RowGroup, tokens: Any, inner: Tensor | None, weighted: Tensor | None
) -> _Weigher:
    router = group.router
    if isinstance(router, FixedRouter):
        return _ConstantWeigher(bank, group, tokens)
    if inner is None or weighted is None or isinstance(tokens, Tensor):
        return _Weigher(bank, group, tokens)
    if isinstance(router, TopKRouter) and router.is_one_loop:
        return _LoopWeigher(loops, bank, group, tokens, inner, weighted)
    return _Weigher(bank, group, tokens)
