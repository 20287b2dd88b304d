"""Sites: which adapters share one, and which layer and kind of module a site's name speaks of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from explorer.adapters.adapter import Adapter
from explorer.adapters.low_rank import LowRank


@dataclass(frozen=True, eq=False)
class SiteGroup:
    """The adapters that have one site in one shape, ordered by rank; their updates are read when asked for.

    Attributes:
        site: its name.
        shape: (d_out, d_in) of the updates.
        adapters: those that have it, n of them, of ascending rank.
        members: their places in the library.
        ranks: of their updates.
    """

    site: str
    shape: tuple[int, int]
    adapters: Sequence[Adapter]
    members: list[int]
    ranks: list[int]

    def updates(self, first: int, last: int) -> list[LowRank]:
        """The updates of a run of its adapters."""
        return [adapter.updates[self.site] for adapter in self.adapters[first:last]]

    @property
    def numbers(self) -> int:
        """How many numbers the factors of all updates hold."""
        return sum(self.ranks) * sum(self.shape)


def site_groups(adapters: Sequence[Adapter]) -> list[SiteGroup]:
    """Every site once for each shape (d_out, d_in) that occurs there.

    Adapters of other base models may have another shape at a site of the same name: their updates live in another
    space, so they make a group of their own.
    """
    found: dict[tuple[str, tuple[int, int]], list[tuple[int, int]]] = defaultdict(list)
    for index, adapter in enumerate(adapters):
        for site, form in adapter.forms.items():
            found[site, form.shape].append((form.rank, index))
    groups = []
    for (site, shape), members in found.items():
        members.sort()
        indices = [index for _, index in members]
        groups.append(
            SiteGroup(site, shape, [adapters[index] for index in indices], indices, [rank for rank, _ in members])
        )
    return groups


def layer_label(site: str) -> str:
    """`layer 3` for `model.layers.3.self_attn.q_proj`; the site's own name where it has no number."""
    found = re.search(r"(?:^|\.)([0-9]+)(?:\.|$)", site)
    return f"layer {int(found[1])}" if found else site


def kind_label(site: str) -> str:
    """`q_proj` for `model.layers.3.self_attn.q_proj`: the kind of module, whatever the layer."""
    return site.rpartition(".")[2]
