"""What each update looks like inside: its singular values, its effective rank, and its size layer by layer.

Batched over sites of equal shape and rank. With G_A = A A^T and G_B = B^T B (r x r) and R the symmetric root of G_A,
R G_B R = Q diag(s^2) Q^T holds the squared singular values of B A, and the rows of Q^T R^-1 A are its right singular
vectors. This squares the condition, which float64 bears down to singular values of 1e-7 of the largest; the
prototypes that Arrow routes by are computed by QR instead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.adapters.adapter import Adapter
from explorer.adapters.low_rank import LowRank
from explorer.analysis.blocks import Matrix
from explorer.analysis.roots import ABSENT, symmetric_root
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


def update_shape(adapter: Adapter) -> UpdateShape:
    """Singular values and norms from the factors alone."""
    updates = list(adapter.updates.values())
    values = np.zeros((len(updates), max((update.rank for update in updates), default=0)))
    for batch in _batches(updates):
        values[batch.places, : batch.squares.shape[1]] = batch.singular_values()
    squares: dict[str, float] = defaultdict(float)
    for site, row in zip(adapter.updates, values, strict=True):
        squares[layer_label(site)] += float(np.square(row).sum())
    return UpdateShape(
        spectrum=tuple(float(value) for value in values.mean(axis=0)) if updates else (),
        effective_rank=_effective_rank(values),
        layers=tuple((label, value**0.5) for label, value in squares.items()),
    )


def input_bases(updates: Sequence[LowRank]) -> list[Tensor]:
    """For each update its right singular vectors as rows, (numerical rank, d_in) float64; none for a zero update."""
    bases: list[Tensor] = [torch.empty(0)] * len(updates)
    for batch in _batches(updates):
        for place, basis in zip(batch.places, batch.right_vectors(), strict=True):
            bases[place] = basis
    return bases


def _effective_rank(values: Matrix) -> float:
    """Mean over the rows that are not zero of exp(entropy of the shares of the squares)."""
    there = values[(values > 0).any(axis=1)]
    if not len(there):
        return 0.0
    energy = np.square(there / there.max(axis=1, keepdims=True))
    share = energy / energy.sum(axis=1, keepdims=True)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    return float(np.exp(entropy).mean())


@dataclass(frozen=True, eq=False)
class _Batch:
    """Updates of one shape and rank, decomposed together.

    `squares` (n, r) are the squared singular values of B A (scale left out), ascending, and the columns of `vectors`
    (n, r, r) their Q. `inverse` is the pseudo-inverse of the root R. `places` says which updates they are.
    """

    places: list[int]
    a: Tensor
    scale: Tensor
    squares: Tensor
    vectors: Tensor
    inverse: Tensor

    def singular_values(self) -> Matrix:
        """(n, r), largest first, scale applied."""
        return (self.squares.flip(-1).sqrt() * self.scale.abs()[:, None]).numpy()

    def right_vectors(self) -> Iterator[Tensor]:
        """The vectors of each update that count, largest first."""
        rows = self.vectors.mT @ self.inverse @ self.a
        largest = self.squares[:, -1:]
        counts = (self.squares > largest * ABSENT**2) & (self.scale[:, None] != 0)
        for own, there in zip(rows, counts, strict=True):
            yield own[there].flip(0)


def _batches(updates: Sequence[LowRank]) -> Iterator[_Batch]:
    groups: dict[tuple[int, tuple[int, int]], list[int]] = defaultdict(list)
    for index, update in enumerate(updates):
        groups[update.rank, update.shape].append(index)
    for places in groups.values():
        a = torch.stack([updates[index].a for index in places]).double()
        b = torch.stack([updates[index].b for index in places]).double()
        root, inverse = (torch.from_numpy(each) for each in symmetric_root((a @ a.mT).numpy()))
        core = root @ (b.mT @ b) @ root
        squares, turned = torch.linalg.eigh((core + core.mT) / 2)
        scale = torch.tensor([updates[index].scale for index in places], dtype=torch.float64)
        yield _Batch(places, a, scale, squares.clamp(min=0), turned, inverse)
