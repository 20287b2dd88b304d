"""One module's update as factors for PEFT: as they are, or the nearest update of a smaller rank.

By Eckart and Young the nearest update of rank R keeps the R largest singular values; the share of the squared
Frobenius norm that it keeps is its energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.adapters.low_rank import LowRank

#: Below this share of |A| |B| an update is what the rounding of float32 left of parts that cancel.
NOTHING = 1e-6
#: Singular values below this share of the largest are lost in the squares of a dense update.
ABSENT = 1e-7


@dataclass(frozen=True, eq=False)
class Cut:
    """An update b @ a, float32.

    Attributes:
        a, b: factors of about equal size, so that half precision serves both.
        energy: squared Frobenius norm.
        full_energy: the same before its rank was cut.
    """

    a: Float[Tensor, "rank d_in"]
    b: Float[Tensor, "d_out rank"]
    energy: float
    full_energy: float

    @property
    def rank(self) -> int:
        """Rows of `a`."""
        return self.a.shape[0]


def cut(update: LowRank | Float[Tensor, "d_out d_in"], rank: int = 0) -> Cut | None:
    """Factors of `update` with at most `rank` directions (0: as many as it takes); None for an update of zero."""
    limit = min(rank or min(update.shape), *update.shape)
    return _of_factors(update, limit) if isinstance(update, LowRank) else _of_matrix(update, limit)


def _of_factors(update: LowRank, limit: int) -> Cut | None:
    """Cost O(d r^2). Factors that are few enough stay as they are."""
    spectrum = update.spectrum()
    energies = spectrum.s.double().square()
    whole = float(energies.sum())
    possible = float(update.a.double().norm() * update.b.double().norm()) * abs(update.scale)
    if whole <= (NOTHING * possible) ** 2:
        return None
    if update.rank <= limit:
        return Cut(update.a.float(), update.scale * update.b.float(), whole, whole)
    roots = spectrum.s[:limit].sqrt()
    a, b = roots[:, None] * spectrum.vh[:limit], spectrum.u[:, :limit] * roots
    return Cut(a, b, float(energies[:limit].sum()), whole)


def _of_matrix(delta: Float[Tensor, "d_out d_in"], limit: int) -> Cut | None:
    """Singular vectors of the smaller side from the eigenvectors of D D^T, the others by multiplying with D."""
    upright = delta.shape[0] > delta.shape[1]
    wide = (delta.T if upright else delta).double()
    whole = float(wide.square().sum())
    if not whole:
        return None
    squares, vectors = torch.linalg.eigh(wide @ wide.T)
    there = squares > ABSENT**2 * squares[-1]
    near = vectors[:, there].flip(1)[:, :limit]
    cuts = int(there.sum()) > limit
    far = near.T @ wide
    lengths = far.norm(dim=1)
    near, far = near * lengths.sqrt(), far / lengths.sqrt()[:, None]
    a, b = (near.T, far.T) if upright else (far, near)
    return Cut(a.float().contiguous(), b.float().contiguous(), float(lengths.square().sum()) if cuts else whole, whole)
