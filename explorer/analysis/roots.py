"""Square roots of small symmetric matrices, many at once."""

from __future__ import annotations

import numpy as np

from explorer.analysis.blocks import Matrix

# a direction below this share of the largest counts as absent
ABSENT = 1e-6


def symmetric_root(grams: Matrix) -> tuple[Matrix, Matrix]:
    """The symmetric roots R of positive semi-definite matrices (n, r, r) float64, and the pseudo-inverses of R."""
    values, vectors = np.linalg.eigh(grams)
    roots = np.sqrt(np.clip(values, 0.0, None))
    there = roots > roots[:, -1:] * ABSENT
    inverses = np.divide(1.0, roots, out=np.zeros_like(roots), where=there)
    return _from_eigen(vectors, np.where(there, roots, 0.0)), _from_eigen(vectors, inverses)


def _from_eigen(vectors: Matrix, values: Matrix) -> Matrix:
    return np.asarray((vectors * values[:, None, :]) @ vectors.swapaxes(1, 2))
