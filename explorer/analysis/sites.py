"""Sites: which adapters share one, and which layer and kind of module a site's name speaks of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from explorer.adapters.adapter import Adapter
from explorer.adapters.low_rank import LowRank


@dataclass(frozen=True)
class SiteGroup:
    """The adapters that have one site in one shape: `members` are their places in the library, ascending."""

    members: list[int]
    updates: list[LowRank]


def site_groups(adapters: Sequence[Adapter]) -> Iterator[SiteGroup]:
    """Every site once for each shape (d_out, d_in) that occurs there.

    Adapters of other base models may have another shape at a site of the same name: their updates live in another
    space, so they make a group of their own.
    """
    groups: dict[tuple[str, tuple[int, int]], list[int]] = defaultdict(list)
    for index, adapter in enumerate(adapters):
        for site, update in adapter.updates.items():
            groups[site, update.shape].append(index)
    for (site, _), members in groups.items():
        yield SiteGroup(members, [adapters[index].updates[site] for index in members])


def layer_label(site: str) -> str:
    """`layer 3` for `model.layers.3.self_attn.q_proj`; the site's own name where it has no number."""
    found = re.search(r"(?:^|\.)([0-9]+)(?:\.|$)", site)
    return f"layer {int(found[1])}" if found else site


def kind_label(site: str) -> str:
    """`q_proj` for `model.layers.3.self_attn.q_proj`: the kind of module, whatever the layer."""
    return site.rpartition(".")[2]
