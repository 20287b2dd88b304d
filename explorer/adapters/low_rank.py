"""A low-rank update as a type: s B A, never multiplied out.

Everything that the library needs of an update (its singular values and vectors, inner products, norms) costs
O(d r^2) from the factors; the full (d_out, d_in) matrix is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Form:
    """What is known of an update without its numbers: (d_out, d_in), rank and scale."""

    shape: tuple[int, int]
    rank: int
    scale: float

    @property
    def parameters(self) -> int:
        """How many numbers A and B hold together."""
        return self.rank * sum(self.shape)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Thin singular value decomposition of one update, U S V^T, largest first."""

    u: Float[Tensor, "d_out rank"]
    s: Float[Tensor, " rank"]
    vh: Float[Tensor, "rank d_in"]


@dataclass(frozen=True, eq=False)
class LowRank:
    """The update dW = scale * b @ a of one linear module.

    The factors keep the dtype they were stored in; every result is computed in float32.
    """

    a: Float[Tensor, "rank d_in"]
    b: Float[Tensor, "d_out rank"]
    scale: float

    @property
    def rank(self) -> int:
        """Number of rows of `a` (an upper bound of the update's rank)."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the update."""
        return self.b.shape[0], self.a.shape[1]

    @property
    def form(self) -> Form:
        """Shape, rank and scale alone."""
        return Form(self.shape, self.rank, self.scale)

    def spectrum(self) -> Spectrum:
        """Exact thin SVD through two QR factorisations and the SVD of an r x r core (cost O(d r^2)).

        A^T = Qa Ra, B = Qb Rb, then s Rb Ra^T = U S V^T: dW = (Qb U) S (Qa V)^T. float64 inside, because the
        direction of the first singular vector is what Arrow routes by.
        """
        qa, ra = torch.linalg.qr(self.a.double().T)
        qb, rb = torch.linalg.qr(self.b.double())
        u, s, vh = torch.linalg.svd(self.scale * rb @ ra.T, full_matrices=False)
        return Spectrum((qb @ u).float(), s.float(), (vh @ qa.T).float())

    def inner(self, other: LowRank) -> float:
        """Frobenius inner product <dW, dW'> = s s' sum((B^T B') * (A A'^T)), from r x r' matrices only."""
        b_part = self.b.float().T @ other.b.float()
        a_part = self.a.float() @ other.a.float().T
        return self.scale * other.scale * float((b_part * a_part).sum(dtype=torch.float64))

    def norm(self) -> float:
        """Frobenius norm of the update."""
        return max(self.inner(self), 0.0) ** 0.5

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The full matrix, float32: for small cases and for tests."""
        return self.scale * (self.b.float() @ self.a.float())
