"""Updates of one shape and rank written with orthonormal rows of A: B A = (B R) (R^-1 A), R the root of A A^T.

In an oblique basis, inner products of updates are sums of large terms that cancel, which float32 cannot bear. In this
one the singular values of the update are those of B R alone: (B R)^T (B R) = Q diag(s^2) Q^T, and the rows of
Q^T R^-1 A are its right singular vectors. Squaring doubles the condition, which float64 bears down to singular values
of 1e-7 of the largest; the prototypes that Arrow routes by are computed by QR instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from explorer.adapters.low_rank import LowRank
from explorer.analysis.blocks import Matrix, runs_of
from explorer.analysis.roots import ABSENT, symmetric_root
from explorer.analysis.sites import SiteGroup

#: Numbers of one batch, in float64.
MOST_NUMBERS = 1 << 22


@dataclass(frozen=True, eq=False)
class Orthonormal:
    """n updates in float64: `a` is R^-1 A (n, rank, d_in), `b` is (B R)^T (n, rank, d_out), `scales` (n,)."""

    a: Matrix
    b: Matrix
    scales: Matrix

    def singular_values(self) -> Matrix:
        """(n, rank), largest first, the scale included."""
        squares = np.linalg.eigvalsh(self._squares())[:, ::-1]
        return np.asarray(np.sqrt(np.clip(squares, 0.0, None)) * np.abs(self.scales)[:, None])

    def right_vectors(self) -> Iterator[Matrix]:
        """For each update its right singular vectors as rows, (numerical rank, d_in); none for a zero update."""
        squares, turned = np.linalg.eigh(self._squares())
        rows = turned.swapaxes(1, 2) @ self.a
        counts = (squares > squares[:, -1:] * ABSENT**2) & (self.scales[:, None] != 0)
        for own, there in zip(rows, counts, strict=True):
            yield own[there][::-1]

    def _squares(self) -> Matrix:
        return np.asarray(self.b @ self.b.swapaxes(1, 2))


def orthonormal(updates: Sequence[LowRank]) -> Orthonormal:
    """Rewrite updates that all have one shape and rank."""
    a = np.stack([_double(update.a) for update in updates])
    b = np.stack([_double(update.b).T for update in updates])
    root, inverse = symmetric_root(a @ a.swapaxes(1, 2))
    return Orthonormal(inverse @ a, root @ b, np.array([update.scale for update in updates], np.float64))


def batches(group: SiteGroup) -> Iterator[tuple[int, int, Orthonormal]]:
    """The updates of a site as (first, one past the last, they rewritten): of one rank each, and of bounded size."""
    for rank, begin, end in runs_of(group.ranks):
        size = max(MOST_NUMBERS // (rank * sum(group.shape)), 1)
        for first in range(begin, end, size):
            last = min(first + size, end)
            yield first, last, orthonormal(group.updates(first, last))


def _double(factor: Tensor) -> Matrix:
    return np.asarray(factor.double().numpy())
