"""How the updates of a library are turned to their singular vectors, computed once and kept in the user's cache.

Routing the same adapters again then takes two small products an update; the QR factorisations and the SVD of its core
are what takes the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from explorer.adapters.adapter import Adapter
from explorer.adapters.identity import adapters_key
from explorer.adapters.low_rank import LowRank
from explorer.cache import keep, recall
from explorer.routing.alignment import Turn, turns_of

FORMAT = 1


class KnownTurns:
    """The turns of all adapters at the sites of a library, by site.

    Args:
        adapters: in the order that weights will have; those in memory are never kept.
        sites: all that will be asked for.
    """

    def __init__(self, adapters: Sequence[Adapter], sites: Sequence[str]) -> None:
        forms = [adapter.forms for adapter in adapters]
        self._ranks = {site: [own[site].rank for own in forms if site in own] for site in sites}
        self._key = adapters_key("turns", adapters, str(FORMAT), *sites)
        self._known = self._recalled()
        self._new: dict[str, NDArray[Any]] = {}

    def of(self, site: str, updates: Sequence[LowRank]) -> list[Turn]:
        """The turns at one site, of the adapters that have it."""
        if site in self._known:
            return self._read(self._known[site], self._ranks[site])
        turns = turns_of(updates)
        if self._key is not None:
            parts = [part.reshape(-1) for turn in turns for part in (turn.reading, turn.writing)]
            self._new[site] = torch.cat(parts).numpy()
        return turns

    def store(self) -> None:
        """Keep what was computed, once every site was asked for."""
        if self._key is not None and len(self._new) == len(self._ranks):
            keep(self._key, {"turns": np.concatenate([self._new[site] for site in self._ranks])})

    def _recalled(self) -> dict[str, NDArray[Any]]:
        stored = recall(self._key) if self._key is not None else None
        numbers = stored.get("turns") if stored is not None else None
        sizes = {site: 2 * sum(rank * rank for rank in ranks) for site, ranks in self._ranks.items()}
        if numbers is None or numbers.shape != (sum(sizes.values()),) or not np.isfinite(numbers).all():
            return {}
        ends = np.cumsum(list(sizes.values()))[:-1]
        return dict(zip(sizes, np.split(numbers, ends), strict=True))

    def _read(self, numbers: NDArray[Any], ranks: Sequence[int]) -> list[Turn]:
        turns, place = [], 0
        for rank in ranks:
            both = torch.from_numpy(numbers[place : place + 2 * rank * rank]).double().view(2, rank, rank)
            turns.append(Turn(both[0], both[1]))
            place += 2 * rank * rank
        return turns
