"""What each update looks like inside: its singular values, its effective rank, and its size layer by layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.adapters.adapter import Adapter
from explorer.analysis.blocks import Matrix
from explorer.analysis.sites import layer_label


@dataclass(frozen=True)
class UpdateShape:
    """Size and spectrum of one adapter's update.

    Attributes:
        spectrum: mean over the sites of the singular values, largest first.
        effective_rank: mean over the sites (those with an update) of exp(entropy of the shares of s^2): 1 when one
            direction holds all the energy, the rank when all hold the same; 0 for a zero update.
        layers: (label, Frobenius norm of the update in that layer) in natural order.
    """

    spectrum: tuple[float, ...]
    effective_rank: float
    layers: tuple[tuple[str, float], ...]


class SpectrumSums:
    """The sums over the sites that make the shapes of N updates, from the singular values of one site at a time."""

    def __init__(self, adapters: Sequence[Adapter]) -> None:
        self._adapters = adapters
        self._ranks = [max(adapter.ranks, default=0) for adapter in adapters]
        self._values = np.zeros((len(adapters), max(self._ranks, default=0)))
        self._directions = np.zeros(len(adapters))
        self._sites = np.zeros(len(adapters))
        self._squares: dict[str, Matrix] = defaultdict(lambda: np.zeros(len(adapters)))

    def add(self, site: str, members: Sequence[int], values: Matrix) -> None:
        """Add the singular values (n, r) that n members of the library have at a site."""
        self._values[members, : values.shape[1]] += values
        self._squares[layer_label(site)][members] += np.square(values).sum(axis=1)
        self._directions[members] += _directions(values)
        self._sites[members] += values.any(axis=1)

    def shapes(self) -> tuple[UpdateShape, ...]:
        """One for each adapter, once every site was added."""
        means = self._directions / np.maximum(self._sites, 1)
        return tuple(self._shape(index, float(mean)) for index, mean in enumerate(means))

    def _shape(self, index: int, effective_rank: float) -> UpdateShape:
        sites = self._adapters[index].forms
        values = self._values[index, : self._ranks[index]] / max(len(sites), 1)
        labels = dict.fromkeys(layer_label(site) for site in sites)
        return UpdateShape(
            spectrum=tuple(values.tolist()),
            effective_rank=effective_rank,
            layers=tuple((label, float(self._squares[label][index] ** 0.5)) for label in labels),
        )


def _directions(values: Matrix) -> Matrix:
    """exp(entropy of the shares of the squares) of each row, 0 for a row of zeros."""
    largest = values.max(axis=1, keepdims=True)
    energy = np.square(values / np.where(largest > 0, largest, 1.0))
    share = energy / np.maximum(energy.sum(axis=1, keepdims=True), 1.0)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    return np.where(largest[:, 0] > 0, np.exp(entropy), 0.0)
