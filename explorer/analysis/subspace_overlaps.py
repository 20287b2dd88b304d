"""How far two updates read the same directions of their inputs, however strongly (the measure `subspace`).

At a site the overlap is ||V_i^T V_j||_F^2 / min(r_i, r_j), V the right singular vectors of each update and r its
numerical rank: 1 where the smaller space lies in the larger one, 0 where they are orthogonal. Blind to singular
values, to scales and to what is written to the output.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from explorer.adapters.adapter import Adapter
from explorer.analysis.blocks import Matrix, Strip, block_sums
from explorer.analysis.sites import site_groups
from explorer.analysis.spectra import input_bases


def subspace_overlaps(adapters: Sequence[Adapter]) -> Matrix:
    """(N, N) sums over the sites of the overlaps; the diagonal counts the sites where an update is not zero."""
    total = np.zeros((len(adapters), len(adapters)))
    for group in site_groups(adapters):
        bases = {
            member: basis for member, basis in zip(group.members, input_bases(group.updates), strict=True) if len(basis)
        }
        if bases:
            members, ranks = list(bases), [len(basis) for basis in bases.values()]
            stacked = torch.cat(list(bases.values())).float().numpy()
            shared = block_sums(ranks, _squares(stacked))
            total[np.ix_(members, members)] += shared / np.minimum.outer(ranks, ranks)
    return total


def _squares(rows: NDArray[np.float32]) -> Strip:
    return lambda strip: np.square(rows[strip] @ rows.T)
