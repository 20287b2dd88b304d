"""The weighted sum of all updates as one update, of full rank or cut to a smaller one by its singular values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from explorer.adapters.low_rank import LowRank
from explorer.routing.alignment import aligned
from explorer.routing.bank import Bank
from explorer.routing.router import Merged, MergeRouter
from explorer.routing.setting import check_settings, setting
from explorer.routing.weighted import check_names, checked_weights, named_weights


@dataclass(frozen=True, kw_only=True)
class LinearMerge(MergeRouter):
    """sum_e w_e dW_e, kept exactly (the factors are stacked and the ranks add up) or cut to `rank` directions.

    The cut keeps the largest singular values, which is the nearest update of that rank; how much of the squared norm
    ("energy") it keeps is told with an export. An adapter's share is |w_e| ||dW_e|| among all.

    Args:
        rank: of the merged update; 0 leaves it as it is.
        weights: a number for each adapter; by default the mean of all.

    Raises:
        SettingsError: a setting is out of its bounds.
    """

    key: ClassVar[str] = "linear"
    title: ClassVar[str] = "Linear merge"
    summary: ClassVar[str] = "The weighted sum of all updates as one update, cut to a smaller rank if wished."

    rank: int = setting(
        "Rank", "Directions that the merged update keeps in each module; 0 keeps all.", "integer", default=0, low=0,
        high=4096,
    )  # fmt: skip
    weights: Mapping[str, float] = setting(
        "Weights", "A number for each adapter to mix; empty for the mean of all.", "weights", hashed=False, default=()
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.weights:
            object.__setattr__(self, "weights", checked_weights(self.weights))

    @property
    def label(self) -> str:
        """In words."""
        mixed = named_weights(self.weights) if self.weights else "the mean"
        return f"Linear merge: {mixed}" + (f", rank {self.rank}" if self.rank else "")

    def check(self, names: tuple[str, ...]) -> None:
        """Raise SettingsError, with the names there are, if a weight is for an adapter not among `names`."""
        check_names(self.weights, names)

    def merge(self, bank: Bank, site: int) -> Merged:
        """Stack the factors, weights in those that write, and cut."""
        mean = 1.0 / len(bank.names)
        given = [self.weights.get(name, 0.0) if self.weights else mean for name in bank.names]
        weights = torch.tensor(given, device=bank.down.device)
        span, owners = bank.spans[site], bank.owners[bank.spans[site]] - site * len(bank.names)
        down, written = bank.down[span].float(), bank.ups[site].float()
        up = written * weights[owners][:, None]
        sizes = torch.zeros(len(bank.names), device=up.device).index_add_(0, owners, up.square().sum(dim=1)).sqrt()
        shares = sizes / sizes.sum().clamp_min(torch.finfo(torch.float32).tiny)
        full = aligned([LowRank(down, up.T, 1.0)])[0]
        energies = full.up.double().square().sum(dim=1)
        whole = float(energies.sum())
        if not self.rank:
            return Merged(shares, whole, whole, down=down, up=up)
        kept = slice(min(self.rank, len(full.down)))
        return Merged(shares, float(energies[kept].sum()), whole, down=full.down[kept], up=full.up[kept])
