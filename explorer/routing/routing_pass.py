"""What one forward pass through a routed model knows: the router of each batch row, and what is to be recorded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explorer.errors import BaseModelError
from explorer.routing.router import Decision, Router
from explorer.routing.trace import Array


@dataclass(frozen=True, eq=False)
class RowGroup:
    """Batch rows that share a router.

    Attributes:
        router: theirs.
        rows: their indices, ascending.
        index: the same as a tensor on the model's device; None when the group is the whole batch.
    """

    router: Router
    rows: tuple[int, ...]
    index: Tensor | None

    def of(self, batch: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "group tokens width"]:
        """The group's part of a batch."""
        return batch if self.index is None else batch.index_select(0, self.index)


class RoutingPass:
    """One forward pass over a batch without padding.

    Args:
        routers: one per batch row.
        tokens: the length of every row.
        record: rows whose decisions are kept for :meth:`recorded`.
        device: where the model is.
    """

    def __init__(self, routers: Sequence[Router], tokens: int, record: Collection[int], device: torch.device) -> None:
        self.rows, self.tokens = len(routers), tokens
        self._record = frozenset(record)
        self._decisions: dict[str, list[tuple[RowGroup, Decision]]] = {}
        distinct: list[Router] = []
        for router in routers:
            if router not in distinct:
                distinct.append(router)
        self.groups = tuple(self._group(router, routers, device) for router in distinct)

    def _group(self, router: Router, routers: Sequence[Router], device: torch.device) -> RowGroup:
        rows = tuple(row for row, other in enumerate(routers) if other == router)
        return RowGroup(router, rows, None if len(rows) == self.rows else torch.tensor(rows, device=device))

    def by_row(self, site: str, x: Tensor) -> Float[Tensor, "rows tokens d_in"]:
        """The input of a site as rows of tokens, whether or not the model flattened them.

        Raises:
            BaseModelError: the site saw something else than every token of every row (an expert of a mixture does).
        """
        if x.numel() != self.rows * self.tokens * x.shape[-1]:
            raise BaseModelError(
                site,
                "does not see every token once, so its adapters cannot be routed",
                expected=f"{self.rows * self.tokens} input vectors",
                found=str(x.numel() // max(x.shape[-1], 1)),
            )
        return x.reshape(self.rows, self.tokens, x.shape[-1])

    def wants(self, group: RowGroup) -> bool:
        """Whether any row of this group is recorded."""
        return not self._record.isdisjoint(group.rows)

    def keep(self, site: str, group: RowGroup, decision: Decision) -> None:
        """Note what a group's router decided at a site, if one of its rows is recorded."""
        if self.wants(group):
            self._decisions.setdefault(site, []).append((group, decision))

    def recorded(self, row: int, sites: Sequence[str]) -> tuple[Array, Array]:
        """Weights and scores of one recorded row, each (sites, tokens, adapters) float32."""
        found = [self._of_row(site, row) for site in sites]
        weights = torch.stack([decision.weights for decision in found])
        scores = torch.stack([decision.scores for decision in found])
        return np.asarray(weights.cpu(), dtype=np.float32), np.asarray(scores.cpu(), dtype=np.float32)

    def _of_row(self, site: str, row: int) -> Decision:
        for group, decision in self._decisions.get(site, []):
            if row in group.rows:
                place = group.rows.index(row)
                return Decision(decision.weights[place], decision.scores[place])
        raise BaseModelError(site, "is not used when this model reads text", fix="Leave its adapters out.")
