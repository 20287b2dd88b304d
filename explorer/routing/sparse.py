"""The sparse way: only the rows of the adapters that a token keeps are read at all. For many adapters.

Twice: with tensor operations for the many tokens of a prompt, and in compiled loops for the few of a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explorer.routing.adding import add, add_product
from explorer.routing.bank import Bank
from explorer.routing.loops import NOTHING, loops_for
from explorer.routing.router import Kept, decision_of
from explorer.routing.routing_pass import RoutingPass, RowGroup
from explorer.routing.top_k import TopKRouter, lengths_for_loops, scale_for_loops
from explorer.routing.way import Way, keep

#: What a row weighs in `loops_for`: a row of a few hundred numbers goes through in the time of this many lone ones.
MOST_WIDTHS = 64


def sparse_way(bank: Bank, group: RowGroup, tokens: int, most_kept: int) -> Way:
    """The sparse way for a group of so many tokens in all."""
    numbers = tokens * len(bank.sites) * most_kept * bank.most_rank
    loops = loops_for(bank.down, numbers * MOST_WIDTHS)
    if loops is None or isinstance(group.tokens, torch.Tensor):
        return SparseWay(bank, group)
    return SparseLoopWay(loops, bank, group, tokens, most_kept)


class SparseWay(Way):
    """The kept adapters' rows for the tokens of one group."""

    def __init__(self, bank: Bank, group: RowGroup) -> None:
        self.bank, self.group, self.recorded = bank, group, []
        self._weighted = self._rows = self._starts = torch.empty(0)

    def read(self, hidden: Float[Tensor, "tokens d_in"], current: RoutingPass) -> None:
        """Scores, then the products with the rows that were kept."""
        bank = self.bank
        self.recorded = []
        seen = current.observe(bank, self.group.of(hidden))
        kept = keep(self.group, seen, current, self.recorded)
        tokens, sites, _ = kept.adapters.shape
        pairs = (kept.adapters + bank.offsets).reshape(-1)
        inner = seen.at_rows(bank.table.index_select(0, pairs).view(tokens, -1))
        weighted = inner.view(*kept.adapters.shape, -1) * kept.weights.unsqueeze(-1).to(inner.dtype)
        self._weighted = weighted.view(tokens, sites, -1)
        self._rows = bank.local.index_select(0, pairs).view(tokens, sites, -1)
        if len(self._starts) != tokens:
            width = self._rows.shape[-1]
            self._starts = torch.arange(0, tokens * width, width, device=hidden.device)

    def add(self, site: int, output: Float[Tensor, "tokens d_out"]) -> None:
        """A weighted sum of chosen rows for each token, which are read where they lie."""
        weights, rows, up = self._weighted[:, site], self._rows[:, site], self.bank.up[site]
        if len(weights) == 1:
            add_product(output, self.group.tokens, weights, up.index_select(0, rows[0]))
            return
        bag = torch.embedding_bag(up, rows.reshape(-1), self._starts, False, 0, False, weights.reshape(-1))
        add(output, self.group.tokens, bag[0])

    def release(self) -> None:
        """Let go of the rows."""
        self.recorded = []
        self._weighted = self._rows = self._starts[:0]


class SparseLoopWay(Way):
    """The kept adapters' rows for the few tokens of one group, from buffers and into buffers."""

    def __init__(self, loops: Any, bank: Bank, group: RowGroup, tokens: int, most_kept: int) -> None:
        self.bank, self.group, self.recorded, self._loops = bank, group, [], loops
        router = group.router
        self._one_loop = (
            router
            if isinstance(router, TopKRouter) and router.is_one_loop and router.reads == "first direction"
            else None
        )
        sites, adapters = bank.present.shape
        self._down, self._ups = bank.down.numpy(), [rows.numpy() for rows in bank.up]
        self._table, self._local = bank.arrays.table, bank.local.numpy()
        shape = tokens, sites, min(most_kept, adapters)
        self._scores = bank.directions.new_empty(tokens, sites * adapters)
        self._kept, self._weights = np.zeros(shape, np.int64), np.empty(shape, np.float32)
        self._values = np.empty((tokens, sites, shape[2] * bank.most_rank), np.float32)
        self._scale: Any = None

    def read(self, hidden: Float[Tensor, "tokens d_in"], current: RoutingPass) -> None:
        """Scores, softmax and the products with the rows that were kept."""
        own = self.group.of(hidden)
        self.recorded = []
        if self._one_loop is not None:
            self._in_one_loop(self._one_loop, own, current)
            return
        seen = current.observe(self.bank, own)
        kept = keep(self.group, seen, current, self.recorded)
        self._kept, self._weights = kept.adapters.contiguous().numpy(), kept.weights.contiguous().numpy()
        given = self._table, self._kept, self._weights, self._values
        if seen.inner is not None:
            self._loops.kept_entries(seen.inner.numpy(), *given)
        else:
            self._loops.kept_products(own.contiguous().numpy(), self._down, *given)

    def _in_one_loop(self, router: TopKRouter, own: Tensor, current: RoutingPass) -> None:
        bank, group = self.bank, self.group
        if self._scale is None:
            self._scale = scale_for_loops(router, current.observe(bank, own))
        lengths = lengths_for_loops(router, current.observe(bank, own)) if router.by_length else NOTHING
        torch.mm(own, bank.reading_directions, out=self._scores)
        self._loops.route_kept(
            self._scores.numpy(),
            self._scale,
            lengths,
            bank.arrays.present,
            router.temperature,
            own.contiguous().numpy(),
            self._down,
            self._table,
            self._kept,
            self._weights,
            self._values,
        )
        if current.wants(group):
            kept = Kept(torch.tensor(self._kept), torch.tensor(self._weights))
            raw = self._scores.clone().view(len(own), len(bank.sites), -1)
            self.recorded.append((group, lambda: decision_of(kept, raw, bank)))

    def add(self, site: int, output: Float[Tensor, "tokens d_out"]) -> None:
        """A weighted sum of chosen rows for each token."""
        own = self.group.of(output).numpy()
        self._loops.add_kept_rows(self._values, self._kept, self._local, site, self._ups[site], own)
