"""Which way each row of a batch goes at a bank, and the ways of a batch of one shape, kept from pass to pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from explorer.routing.bank import Bank
from explorer.routing.costs import prefers_sparse
from explorer.routing.dense import DenseWay
from explorer.routing.factor_way import FactorWay
from explorer.routing.router import FixedRouter, Router, ScoreRouter
from explorer.routing.routing_pass import RowGroup, row_groups
from explorer.routing.sparse import sparse_way
from explorer.routing.static_way import SilentWay, StaticWay
from explorer.routing.way import Way


class Plan:
    """Rows with their routers and the ways they go, for passes of one shape.

    Args:
        routers: one per batch row.
        tokens: the length of every row.
        device: where the model is.
    """

    def __init__(self, routers: Sequence[Router], tokens: int, device: torch.device) -> None:
        self.rows, self.tokens = len(routers), tokens
        self.groups = row_groups(routers, tokens, device)
        self._ways: dict[int, tuple[Bank, Sequence[Way]]] = {}

    def ways(self, bank: Bank) -> Sequence[Way]:
        """The ways at one bank, made on first use."""
        found = self._ways.get(id(bank))
        if found is None:
            found = self._ways[id(bank)] = bank, choose_ways(bank, self.groups, self.rows, self.tokens)
        return found[1]


def choose_ways(bank: Bank, groups: Sequence[RowGroup], rows: int, tokens: int) -> list[Way]:
    """The cheapest way for each group; those that go the dense way go it together."""
    ways: list[Way] = []
    sharers = sum(_could_share(group.router) for group in groups)
    dense = [group for group in groups if _goes_dense(bank, group, tokens, sharers)]
    for group in groups:
        router = group.router
        if group in dense:
            continue
        if not router.uses_adapters:
            ways.append(SilentWay(bank, group))
        elif router.averages_factors:
            ways.append(FactorWay(bank, group))
        elif isinstance(router, ScoreRouter):
            ways.append(sparse_way(bank, group, len(group.rows) * tokens, router.most_kept))
        elif isinstance(router, FixedRouter) and dense:
            dense.append(group)
        else:
            ways.append(StaticWay(bank, group))
    return [*ways, *([DenseWay(bank, dense, rows, tokens)] if dense else [])]


def _could_share(router: Router) -> bool:
    """Whether the dense way is open to a router."""
    return router.uses_adapters and not router.averages_factors and isinstance(router, ScoreRouter | FixedRouter)


def _goes_dense(bank: Bank, group: RowGroup, tokens: int, sharers: int) -> bool:
    router = group.router
    if not isinstance(router, ScoreRouter) or router.averages_factors:
        return False
    return not prefers_sparse(bank, len(group.rows) * tokens, router, sharers)
