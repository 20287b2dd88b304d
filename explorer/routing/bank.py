"""From a library to one SiteBank per adapted module."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from explorer.adapters.adapter import Adapter
from explorer.adapters.library import natural_key
from explorer.routing.prototypes import prototypes
from explorer.routing.router import SiteBank


def build_bank(adapters: Sequence[Adapter], site: str, device: torch.device, dtype: torch.dtype) -> SiteBank:
    """Stack the adapters that have `site`: factors in the model's dtype, prototypes in float32."""
    present = torch.tensor([site in adapter.updates for adapter in adapters])
    updates = [adapter.updates[site] for adapter in adapters if site in adapter.updates]
    indices = present.nonzero().flatten()
    found = prototypes(updates)
    directions = torch.zeros(len(adapters), found.shape[1])
    directions[indices] = found
    ranks = torch.tensor([update.rank for update in updates])
    return SiteBank(
        site=site,
        names=tuple(adapter.name for adapter in adapters),
        present=present.to(device),
        prototypes=directions.to(device),
        a=torch.cat([update.a.float() for update in updates]).to(device, dtype),
        # the scale is applied in float32, before the rounding to the model's dtype
        b=torch.cat([update.scale * update.b.float() for update in updates], dim=1).to(device, dtype),
        owners=indices.repeat_interleave(ranks).to(device),
    )


def adapted_sites(adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """Every site that one of the adapters has, in natural order."""
    return tuple(sorted({site for adapter in adapters for site in adapter.updates}, key=natural_key))
