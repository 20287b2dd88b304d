"""From adapters to site banks: the factors of all adapters at a site stacked, with their prototypes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch

from explorer.adapters.adapter import Adapter
from explorer.adapters.library import natural_key
from explorer.adapters.low_rank import LowRank
from explorer.routing.prototypes import prototypes
from explorer.routing.router import SiteBank


def build_banks(
    adapters: Sequence[Adapter],
    device: torch.device,
    dtype: torch.dtype,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, SiteBank]:
    """One bank for each site that any of `adapters` has, in natural order of the sites.

    Args:
        adapters: at least one, in the order that weights will have.
        device: where the base model is.
        dtype: of the stacked factors; prototypes are float32 whatever it is.
        progress: called with the number of updates prepared so far, and of all.
    """
    names = tuple(adapter.name for adapter in adapters)
    members: defaultdict[str, list[tuple[int, LowRank]]] = defaultdict(list)
    for owner, adapter in enumerate(adapters):
        for site, update in adapter.updates.items():
            members[site].append((owner, update))
    updates = [update for site in members for _, update in members[site]]
    report = None if progress is None else lambda done: progress(done, len(updates))
    vectors = iter(prototypes(updates, report))
    banks = {
        site: _site_bank(site, names, found, [next(vectors) for _ in found], device, dtype)
        for site, found in members.items()
    }
    return {site: banks[site] for site in sorted(banks, key=natural_key)}


def _site_bank(
    site: str,
    names: tuple[str, ...],
    members: list[tuple[int, LowRank]],
    vectors: list[torch.Tensor],
    device: torch.device,
    dtype: torch.dtype,
) -> SiteBank:
    owners = torch.tensor([owner for owner, _ in members])
    ranks = torch.tensor([update.rank for _, update in members])
    stacked = torch.zeros(len(names), members[0][1].shape[1])
    stacked[owners] = torch.stack(vectors)
    present = torch.zeros(len(names), dtype=torch.bool)
    present[owners] = True
    a = torch.cat([update.a.to(device, dtype) for _, update in members])
    # stored with the rank first, so that picking the rows of a few adapters reads whole rows of both factors
    b = torch.cat([(update.scale * update.b.float()).T.to(device, dtype) for _, update in members])
    return SiteBank(
        site=site,
        names=names,
        present=present.to(device),
        prototypes=stacked.to(device),
        a=a,
        b=b.T,
        owners=owners.repeat_interleave(ranks).to(device),
    )
