"""Mixing the factors instead of the outputs: (sum_e w_e B_e)(sum_e w_e A_e) h, as the paper's own code does.

It adds the cross terms w_e w_f B_e A_f to the mixture of outputs, and depends on the basis of the factors as they were
trained, which the aligned bank no longer has: adapters keep their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.adapters.adapter import Adapter
from explorer.adapters.low_rank import LowRank
from explorer.errors import SettingsError
from explorer.routing.bank import Bank


@dataclass(frozen=True, eq=False)
class StoredFactors:
    """The factors at one site as they were trained: A (E, r, d_in) and s B^T (E, r, d_out), zeros where absent."""

    a: Float[Tensor, "adapters rank d_in"]
    b: Float[Tensor, "adapters rank d_out"]


def stored_factors(adapters: Sequence[Adapter], bank: Bank) -> tuple[StoredFactors, ...]:
    """The trained factors of all adapters at the bank's sites.

    Raises:
        SettingsError: two adapters have different ranks at a site, so that their factors have no mean.
    """
    return tuple(_at_site([adapter.updates.get(site) for adapter in adapters], site, bank) for site in bank.sites)


def _at_site(updates: Sequence[LowRank | None], site: str, bank: Bank) -> StoredFactors:
    there = {index: update for index, update in enumerate(updates) if update is not None}
    ranks = {update.rank: bank.names[index] for index, update in there.items()}
    if len(ranks) > 1:
        (one, first), (two, second) = list(ranks.items())[:2]
        found = f"rank {one} of {first} and rank {two} of {second} in {site}"
        raise SettingsError("Average factors", expected="equal ranks", found=found, fix="Mix the outputs instead.")
    any_update = next(iter(there.values()))
    (d_out, d_in), rank = any_update.shape, any_update.rank
    a, b = torch.zeros(len(updates), rank, d_in), torch.zeros(len(updates), rank, d_out)
    for index, update in there.items():
        a[index], b[index] = update.a.float(), update.scale * update.b.float().T
    return StoredFactors(a.to(bank.down), b.to(bank.down))


def factor_means(
    own: StoredFactors, hidden: Float[Tensor, "tokens d_in"], weights: Float[Tensor, "tokens adapters"]
) -> tuple[Tensor, Tensor]:
    """Two matrices whose product is what is added: w_e (sum_f w_f A_f h) for all rows, and all rows of s B^T."""
    adapters, rank, _ = own.a.shape
    inner = (hidden.to(own.a.dtype) @ own.a.flatten(0, 1).T).view(-1, adapters, rank)
    w = weights.to(inner.dtype)
    mean = torch.einsum("ter,te->tr", inner, w)
    return torch.einsum("tr,te->ter", mean, w).flatten(1), own.b.flatten(0, 1)
