"""Square roots of small symmetric matrices, many at once."""

from __future__ import annotations

import torch
from torch import Tensor

# a direction below this share of the largest counts as absent
ABSENT = 1e-6


def symmetric_root(grams: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric roots R of positive semi-definite matrices (n, r, r) float64, and the pseudo-inverses of R."""
    values, vectors = torch.linalg.eigh(grams)
    roots = values.clamp(min=0).sqrt()
    there = roots > roots[:, -1:] * ABSENT
    inverses = torch.where(there, 1 / torch.where(there, roots, 1.0), 0.0)
    return _from_eigen(vectors, torch.where(there, roots, 0.0)), _from_eigen(vectors, inverses)


def _from_eigen(vectors: Tensor, values: Tensor) -> Tensor:
    return (vectors * values[:, None, :]) @ vectors.mT
