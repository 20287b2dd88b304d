"""Inner products of whole updates, from the factors alone (the measure `update` of MBC).

<dW_i, dW_j> = s_i s_j sum over the sites of sum((B_i^T B_j) * (A_i A_j^T)): r x r matrices only. Any ranks, any
initial basis; a site that an adapter lacks adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from explorer.adapters.adapter import Adapter
from explorer.adapters.low_rank import LowRank
from explorer.analysis.blocks import Matrix, Strip, block_sums, starts_of
from explorer.analysis.sites import site_groups

Rows = NDArray[np.float32]


def update_products(adapters: Sequence[Adapter]) -> Matrix:
    """(N, N) inner products of N adapters' updates, summed site by site in float64.

    At a site, all factors are stacked to R rows, and both R x R products are taken at once: O(R^2 (d_in + d_out)).
    """
    total = np.zeros((len(adapters), len(adapters)))
    for group in site_groups(adapters):
        a, b, sizes = _stacked(group.updates)
        blocks = block_sums([update.rank for update in group.updates], _products(a, b))
        total[np.ix_(group.members, group.members)] += blocks * np.outer(sizes, sizes)
    return total


def _products(a: Rows, b: Rows) -> Strip:
    def strip(rows: slice) -> Rows:
        # numpy knows a whole matrix times its own transpose as symmetric and computes half of it (BLAS syrk)
        products: Rows = a[rows] @ a.T
        products *= b[rows] @ b.T
        return products

    return strip


def _stacked(updates: Sequence[LowRank]) -> tuple[Rows, Rows, Matrix]:
    """All rows of A, all of s B^T, and each update's size, which has been divided out of its rows.

    With entries of at most 1, float32 products neither overflow nor vanish, however large or small an update is.
    """
    ranks = [update.rank for update in updates]
    a = torch.cat([update.a.float() for update in updates]).numpy()
    b = torch.cat([update.b.float().T for update in updates]).numpy()
    weights = np.repeat([update.scale for update in updates], ranks) * _unit_peaks(a) * _unit_peaks(b)
    sizes = np.maximum.reduceat(np.abs(weights), starts_of(ranks))
    b *= (weights / np.repeat(np.where(sizes == 0, 1.0, sizes), ranks)).astype(np.float32)[:, None]
    return a, b, sizes


def _unit_peaks(rows: Rows) -> Matrix:
    """Divide each row by its largest magnitude, in place; returns those magnitudes."""
    peaks = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    rows /= np.where(peaks == 0, 1, peaks)[:, None]
    return peaks.astype(np.float64)
