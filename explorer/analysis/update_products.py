"""Inner products of whole updates, from the factors alone (the measure `update` of MBC).

<dW_i, dW_j> = s_i s_j sum over the sites of sum((B_i^T B_j) * (A_i A_j^T)): r x r matrices only. Any ranks, any
initial basis; a site that an adapter lacks adds nothing.

Each update is first written with orthonormal rows of A (R the symmetric root of A A^T: B A = (B R) (R^-1 A)). In an
oblique basis the products would be large and cancel, which float32 cannot bear.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from explorer.adapters.adapter import Adapter
from explorer.adapters.low_rank import LowRank
from explorer.analysis.blocks import Matrix, Strip, block_sums, starts_of
from explorer.analysis.roots import symmetric_root
from explorer.analysis.sites import SiteGroup, site_groups

Rows = NDArray[np.float32]
MOST_WORKERS = 8


def update_products(adapters: Sequence[Adapter]) -> Matrix:
    """(N, N) inner products of N adapters' updates, summed site by site in float64.

    At a site, all factors are stacked to R rows, and both R x R products are taken at once: O(R^2 (d_in + d_out)).
    The sites are shared out among threads that each compute alone: threads inside one product wait for each other
    actively, which costs a multiple of the work as soon as anything else runs on the machine.
    """
    total = np.zeros((len(adapters), len(adapters)))
    groups = list(site_groups(adapters))
    workers = min(os.cpu_count() or 1, MOST_WORKERS, max(len(groups), 1))
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        for group, products in zip(groups, pool.map(_site_products, groups), strict=True):
            total[np.ix_(group.members, group.members)] += products
    return total


def _site_products(group: SiteGroup) -> Matrix:
    """The inner products of the updates at one site, (n, n)."""
    a, b, sizes = _stacked(group.updates)
    blocks = block_sums([update.rank for update in group.updates], _products(a, b))
    return np.asarray(blocks * np.outer(sizes, sizes))


def _products(a: Rows, b: Rows) -> Strip:
    def strip(rows: slice) -> Rows:
        # numpy knows a whole matrix times its own transpose as symmetric and computes half of it (BLAS syrk)
        products: Rows = a[rows] @ a.T
        products *= b[rows] @ b.T
        return products

    return strip


def _stacked(updates: Sequence[LowRank]) -> tuple[Rows, Rows, Matrix]:
    """All rows of A and all of B^T in orthonormal bases, and each update's size, divided out of its rows of B^T.

    With entries of at most 1, float32 products neither overflow nor vanish, however large or small an update is.
    """
    ranks = [update.rank for update in updates]
    d_out, d_in = updates[0].shape
    a, b = np.empty((sum(ranks), d_in), np.float32), np.empty((sum(ranks), d_out), np.float32)
    sizes = np.empty(len(updates))
    starts, alike = starts_of(ranks), defaultdict(list)
    for index, rank in enumerate(ranks):
        alike[rank].append(index)
    for rank, indices in alike.items():
        rows = (starts[indices][:, None] + np.arange(rank)).ravel()
        own_a, own_b = _orthonormal([updates[index] for index in indices])
        peaks = np.abs(own_b).max(axis=(1, 2))
        a[rows] = own_a.reshape(-1, d_in)
        b[rows] = (own_b / np.where(peaks == 0, 1.0, peaks)[:, None, None]).reshape(-1, d_out)
        sizes[indices] = peaks * [updates[index].scale for index in indices]
    return a, b, sizes


def _orthonormal(updates: Sequence[LowRank]) -> tuple[Matrix, Matrix]:
    """R^-1 A and (B R)^T of updates of one shape and rank, (n, rank, d_in) and (n, rank, d_out) float64."""
    a = np.stack([update.a.double().numpy() for update in updates])
    b = np.stack([update.b.double().numpy() for update in updates])
    root, inverse = symmetric_root(a @ a.swapaxes(1, 2))
    return inverse @ a, root @ b.swapaxes(1, 2)
