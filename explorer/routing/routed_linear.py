"""A linear module with a whole library attached: y = base(x) + sum_e w_e(x) s_e B_e A_e x.

Dense path of the cost note: one product with all stacked A, a scaling of each row by its adapter's weight, one
product with all stacked B. The outputs of the single adapters are never formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explorer.routing.router import Decision, Router, SiteBank


@dataclass
class RoutedPass:
    """What one forward pass through the model needs to know: the router of each batch row, and what to record.

    Attributes:
        routers: one per batch row.
        recorded: batch rows whose decisions are kept.
        decisions: site -> (weights, scores), each (recorded rows, tokens, adapters), filled by the pass.
    """

    routers: Sequence[Router]
    recorded: Sequence[int] = ()
    decisions: dict[str, Decision] = field(default_factory=dict)

    def groups(self) -> dict[Router, list[int]]:
        """Batch rows by router, those that use no adapter left out unless they are recorded."""
        groups: dict[Router, list[int]] = {}
        for row, router in enumerate(self.routers):
            if router.uses_adapters or row in self.recorded:
                groups.setdefault(router, []).append(row)
        return groups


class RoutedLinear(nn.Module):
    """Stands in for a Linear (or GPT-2's Conv1D) while a library is attached; the module itself is not touched."""

    def __init__(self, base: nn.Module, bank: SiteBank) -> None:
        super().__init__()
        self.base = base
        self.bank = bank
        self.current: RoutedPass | None = None

    @property
    def weight(self) -> Tensor:
        """The base weight: some architectures read its dtype."""
        return self.base.weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, d_in) -> (batch, tokens, d_out)."""
        output: Tensor = self.base(x)
        if self.current is None:
            return output
        groups = self.current.groups()
        if not groups:
            return output
        weights = self._weights(x, groups, self.current)
        if not any(router.uses_adapters for router in groups):
            return output
        low = x.to(self.bank.a.dtype) @ self.bank.a.T
        low = low * weights.index_select(-1, self.bank.owners).to(low.dtype)
        return output + (low @ self.bank.b.T).to(output.dtype)

    def _weights(self, x: Tensor, groups: dict[Router, list[int]], current: RoutedPass) -> Tensor:
        hidden = x.float()
        if len(groups) == 1 and len(next(iter(groups.values()))) == x.shape[0]:
            decision = next(iter(groups)).decide(self.bank, hidden)
        else:
            shape = (*x.shape[:-1], len(self.bank.names))
            decision = Decision(hidden.new_zeros(shape), hidden.new_zeros(shape))
            for router, rows in groups.items():
                part = router.decide(self.bank, hidden[rows])
                decision.weights[rows] = part.weights
                decision.scores[rows] = part.scores
        if current.recorded:
            rows = list(current.recorded)
            current.decisions[self.bank.site] = Decision(
                decision.weights[rows].detach(), decision.scores[rows].detach()
            )
        return decision.weights


def stacked(recorded: RoutedPass, sites: Sequence[str], row: int) -> tuple[Tensor, Tensor]:
    """Weights and scores of one recorded row, each (sites, tokens, adapters), float32 on the CPU."""
    weights = torch.stack([recorded.decisions[site].weights[row] for site in sites])
    scores = torch.stack([recorded.decisions[site].scores[row] for site in sites])
    return weights.float().cpu(), scores.float().cpu()
