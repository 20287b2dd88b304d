"""A bank: all adapters of a library at the modules that read one input (a layer's q, k and v, say), stacked.

One product with the stacked rows serves all those modules, and they are routed together.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from explorer.adapters.adapter import Adapter
from explorer.routing.alignment import Aligned, aligned
from explorer.routing.known_turns import KnownTurns

Made = TypeVar("Made")
MOST_REMEMBERED = 6


class Memory:
    """What was made of a bank for a router, for the next token: the few things that were used last."""

    def __init__(self) -> None:
        self._made: OrderedDict[Hashable, object] = OrderedDict()

    def __len__(self) -> int:
        return len(self._made)

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is kept under `key`, made now if it is not there."""
        if key not in self._made:
            self._made[key] = make()
            while len(self._made) > MOST_REMEMBERED:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Arrays:
    """Index tables of a bank for the compiled loops (see `Bank`)."""

    table: NDArray[np.int64]
    present: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Bank:
    """E adapters at S sites that share their input.

    The rows of all updates, by singular vectors (`alignment.py`), lie site by site and adapter by adapter, each
    adapter's strongest direction first, and a row of zeros last. An adapter that lacks a site has no rows there. What
    is indexed by (site, adapter) below is flat: site * E + adapter.

    Attributes:
        sites: names of the modules, S of them.
        names: adapters in the library's order, E of them.
        present: which adapter adapts which site.
        directions: Arrow's prototypes in float32, whatever the model's dtype; zeros where absent.
        down: right singular vectors of all updates, R rows in all, and the row of zeros.
        up: for each site the rows that write to its output, scales included, and a row of zeros.
        owners: for each row of `down` its (site, adapter); 0 for the row of zeros.
        table: for each (site, adapter) its rows in `down`; the row of zeros stands for those it does not have.
        local: the same as rows of that site's `up`.
        starts: the first row of each site in `down`, and R.
        memory: what routers made of this bank.
    """

    sites: tuple[str, ...]
    names: tuple[str, ...]
    present: Bool[Tensor, "sites adapters"]
    directions: Float[Tensor, "pairs d_in"]
    down: Float[Tensor, "rows d_in"]
    up: tuple[Tensor, ...]
    owners: Int[Tensor, " rows"]
    table: Int[Tensor, "pairs most_rank"]
    local: Int[Tensor, "pairs most_rank"]
    starts: tuple[int, ...]
    memory: Memory = field(default_factory=Memory, repr=False)

    @cached_property
    def complete(self) -> bool:
        """Whether every adapter has every site."""
        return bool(self.present.all())

    @cached_property
    def twins(self) -> bool:
        """Whether two adapters have the same prototype at a site, so that their scores are always equal."""
        first = self.directions.abs().argmax(dim=-1, keepdim=True)
        unsigned = self.directions * self.directions.gather(-1, first).sign()
        per_site = unsigned.reshape(len(self.sites), len(self.names), -1)
        adapted = (rows[there] for rows, there in zip(per_site, self.present, strict=True))
        return any(len(torch.unique(rows, dim=0)) < len(rows) for rows in adapted)

    @cached_property
    def ups(self) -> tuple[Tensor, ...]:
        """For each site the rows that write to its output, without the row of zeros."""
        return tuple(rows[:-1] for rows in self.up)

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """For each site its rows in `down`."""
        return tuple(slice(first, last) for first, last in pairwise(self.starts))

    @cached_property
    def firsts(self) -> Int[Tensor, " pairs"]:
        """For each (site, adapter) the row of its strongest direction."""
        return self.table[:, 0].contiguous()

    @cached_property
    def offsets(self) -> Int[Tensor, "sites 1"]:
        """What to add to the index of an adapter, site by site."""
        return torch.arange(len(self.sites), device=self.down.device)[:, None] * len(self.names)

    @cached_property
    def arrays(self) -> Arrays:
        """The index tables as numpy sees them (on the CPU)."""
        return Arrays(self.table.numpy(), self.present.reshape(-1).numpy())

    @cached_property
    def reading_directions(self) -> Tensor:
        """The prototypes as a product takes them, (d_in, pairs)."""
        return self.directions.T

    @cached_property
    def _reading(self) -> Tensor:
        return self.down.T

    def read(self, hidden: Float[Tensor, "tokens d_in"], out: Tensor | None = None) -> Float[Tensor, "tokens rows"]:
        """<row of down, h> for every row, in the dtype of the bank."""
        same = hidden if hidden.dtype == self.down.dtype else hidden.to(self.down.dtype)
        return torch.mm(same, self._reading) if out is None else torch.mm(same, self._reading, out=out)

    @property
    def most_rank(self) -> int:
        """The largest rank among the updates."""
        return self.table.shape[1]

    def update(self, site: int, adapter: int) -> tuple[Tensor, Tensor]:
        """(down, up) of one adapter at one site: rows of `down` and of `up`."""
        pair = site * len(self.names) + adapter
        count = int((self.owners[:-1] == pair).sum())
        return self.down[self.table[pair, :count]], self.up[site][self.local[pair, :count]]


def build_banks(
    adapters: Sequence[Adapter],
    groups: Sequence[Sequence[str]],
    device: torch.device,
    dtype: torch.dtype,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Bank, ...]:
    """One bank for each group of sites.

    Args:
        adapters: at least one, in the order that weights will have.
        groups: sites that read one input; each is adapted by at least one adapter.
        device: where the base model is.
        dtype: of the stacked rows; prototypes are float32 whatever it is.
        progress: called with the number of sites prepared so far, and of all.
    """
    names = tuple(adapter.name for adapter in adapters)
    sites = [site for group in groups for site in group]
    turns = KnownTurns(adapters, sites)
    banks = []
    for group in groups:
        found = []
        for site in group:
            found.append(_aligned_at(site, adapters, turns))
            if progress is not None:
                progress(sites.index(site) + 1, len(sites))
        banks.append(_stacked(tuple(group), names, found, device, dtype))
    turns.store()
    return tuple(banks)


def _aligned_at(site: str, adapters: Sequence[Adapter], turns: KnownTurns) -> dict[int, Aligned]:
    """The updates at one site by the index of their adapter."""
    updates = {index: adapter.updates[site] for index, adapter in enumerate(adapters) if site in adapter.updates}
    listed = list(updates.values())
    return dict(zip(updates, aligned(listed, turns.of(site, listed)), strict=True))


def _stacked(
    sites: tuple[str, ...],
    names: tuple[str, ...],
    found: Sequence[dict[int, Aligned]],
    device: torch.device,
    dtype: torch.dtype,
) -> Bank:
    rows: list[Tensor] = []
    owners: list[int] = []
    up: list[Tensor] = []
    starts = [0]
    table: dict[int, list[int]] = defaultdict(list)
    local: dict[int, list[int]] = defaultdict(list)
    for site, updates in enumerate(found):
        for adapter, one in updates.items():
            pair, rank = site * len(names) + adapter, one.down.shape[0]
            table[pair] = list(range(len(owners), len(owners) + rank))
            local[pair] = [row - starts[-1] for row in table[pair]]
            owners += [pair] * rank
            rows.append(one.down.to(device, dtype))
        written = [one.up.to(device, dtype) for one in updates.values()]
        up.append(torch.cat([*written, torch.zeros_like(written[0][:1])]))
        starts.append(len(owners))
    pairs = range(len(sites) * len(names))
    most = max(len(own) for own in table.values())
    ends = [starts[site + 1] - starts[site] for site in range(len(sites)) for _ in names]
    first = next(iter(found[0].values())).down
    directions = [found[pair // len(names)].get(pair % len(names)) for pair in pairs]
    return Bank(
        sites=sites,
        names=names,
        present=torch.tensor([[adapter in updates for adapter in range(len(names))] for updates in found]).to(device),
        directions=torch.stack([torch.zeros_like(first[0]) if one is None else one.down[0] for one in directions]).to(
            device
        ),
        down=torch.cat([*rows, torch.zeros_like(rows[0][:1])]),
        up=tuple(up),
        owners=torch.tensor([*owners, 0], device=device),
        table=torch.tensor([_padded(table[pair], most, len(owners)) for pair in pairs], device=device),
        local=torch.tensor([_padded(local[pair], most, ends[pair]) for pair in pairs], device=device),
        starts=tuple(starts),
    )


def _padded(rows: list[int], length: int, filler: int) -> list[int]:
    return rows + [filler] * (length - len(rows))
