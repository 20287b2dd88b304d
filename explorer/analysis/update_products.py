"""Inner products of whole updates at one site, from the factors alone (the measure `update` of MBC).

<dW_i, dW_j> = s_i s_j sum over the sites of sum((B_i^T B_j) * (A_i A_j^T)): r x r matrices only. Any ranks, any
initial basis; a site that an adapter lacks adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from explorer.analysis.blocks import Matrix, Rows, Strip, block_sums, starts_of
from explorer.analysis.orthonormal import batches
from explorer.analysis.sites import SiteGroup


@dataclass(frozen=True, eq=False)
class SiteProducts:
    """What the updates at one site have in common, and what each is like.

    Attributes:
        inner: (n, n) inner products.
        singular_values: (n, largest rank), largest first, zeros beyond an update's own rank.
    """

    inner: Matrix
    singular_values: Matrix


def site_products(group: SiteGroup) -> SiteProducts:
    """All n updates of a site against each other: O(R^2 (d_in + d_out)) for R rows in all.

    All factors are stacked in orthonormal bases, each update's size divided out of its rows of B^T: with entries of at
    most 1, float32 products neither overflow nor vanish, however large or small an update is.
    """
    starts, (d_out, d_in) = starts_of(group.ranks), group.shape
    a, b = np.empty((starts[-1], d_in), np.float32), np.empty((starts[-1], d_out), np.float32)
    sizes, values = np.empty(len(group.ranks)), np.zeros((len(group.ranks), max(group.ranks)))
    for first, last, batch in batches(group):
        rows = slice(starts[first], starts[last])
        peaks = np.abs(batch.b).max(axis=(1, 2))
        a[rows] = batch.a.reshape(-1, d_in)
        b[rows] = (batch.b / np.where(peaks == 0, 1.0, peaks)[:, None, None]).reshape(-1, d_out)
        sizes[first:last] = peaks * batch.scales
        values[first:last, : group.ranks[first]] = batch.singular_values()
    inner = block_sums(group.ranks, _products(a, b)) * np.outer(sizes, sizes)
    return SiteProducts(inner, values)


def _products(a: Rows, b: Rows) -> Strip:
    def strip(rows: slice) -> Rows:
        products: Rows = a[rows] @ a[rows.start :].T
        products *= b[rows] @ b[rows.start :].T
        return products

    return strip
