"""How far two updates read the same directions of their inputs, however strongly (the measure `subspace`).

At a site the overlap is ||V_i^T V_j||_F^2 / min(r_i, r_j), V the right singular vectors of each update and r its
numerical rank: 1 where the smaller space lies in the larger one, 0 where they are orthogonal. Blind to singular
values, to scales and to what is written to the output.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explorer.adapters.adapter import Adapter
from explorer.analysis.blocks import Matrix, Rows, Strip, block_sums
from explorer.analysis.orthonormal import batches
from explorer.analysis.site_by_site import add_at, over_sites
from explorer.analysis.sites import SiteGroup, site_groups


def subspace_overlaps(adapters: Sequence[Adapter]) -> Matrix:
    """(N, N) sums over the sites of the overlaps; the diagonal counts the sites where an update is not zero."""
    total = np.zeros((len(adapters), len(adapters)))
    for group, overlaps in over_sites(site_groups(adapters), _site_overlaps):
        add_at(total, group.members, overlaps)
    return total


def _site_overlaps(group: SiteGroup) -> Matrix:
    """(n, n) overlaps at one site; zeros for an update of zero."""
    overlaps = np.zeros((len(group.ranks), len(group.ranks)))
    bases = [basis.astype(np.float32) for _, _, batch in batches(group) for basis in batch.right_vectors()]
    there = sorted((index for index, basis in enumerate(bases) if len(basis)), key=lambda index: len(bases[index]))
    if there:
        ranks = [len(bases[index]) for index in there]
        shared = block_sums(ranks, _squares(np.concatenate([bases[index] for index in there])))
        overlaps[np.ix_(there, there)] = shared / np.minimum.outer(ranks, ranks)
    return overlaps


def _squares(rows: Rows) -> Strip:
    return lambda strip: np.square(rows[strip] @ rows[strip.start :].T)
