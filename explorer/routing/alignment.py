"""Updates rewritten by their singular vectors: dW = U S V^T as rows V^T to read by and rows (U S)^T to write by.

Every router that looks at directions needs this: the first row of V^T is Arrow's prototype (arXiv 2405.11157, section
3.2), and ||V^T h|| is SpectR's score (arXiv 2504.03454). The update itself is the same in either form, so the library
is kept in this one only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.adapters.low_rank import LowRank

CHUNK_NUMBERS = 1 << 22  # of float64: what one batch of factors may hold
ABSENT = 1e-10  # singular values below this share of the largest are rounding error of float64


@dataclass(frozen=True, eq=False)
class Aligned:
    """One update, dW = up^T down.

    Attributes:
        down: V^T, its rows orthonormal, strongest first; zero rows where the update has fewer directions.
        up: (U S)^T times the adapter's scale, row by row what each direction adds to the output.
    """

    down: Float[Tensor, "rank d_in"]
    up: Float[Tensor, "rank d_out"]


def aligned(updates: Sequence[LowRank]) -> list[Aligned]:
    """Each update by its singular vectors, in order, float32. Cost O(d r^2) each; exact, never by iteration.

    Updates of one shape and rank go through LAPACK as a batch.
    """
    found: dict[int, Aligned] = {}
    for chunk in _chunks(updates):
        a = torch.stack([updates[index].a.double() for index in chunk])
        b = torch.stack([updates[index].b.double() * updates[index].scale for index in chunk])
        for index, down, up in zip(chunk, *_by_singular_vectors(a, b), strict=True):
            found[index] = Aligned(down, up)
    return [found[index] for index in range(len(updates))]


def prototypes(updates: Sequence[LowRank]) -> list[Tensor]:
    """Arrow's prototype of each update: (d_in,) float32 of unit length, zeros for an update of zero."""
    return [one.down[0] for one in aligned(updates)]


def _chunks(updates: Sequence[LowRank]) -> Iterator[list[int]]:
    """Indices of updates of one shape, few enough for one batch."""
    by_shape: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
    for index, update in enumerate(updates):
        by_shape[(*update.shape, update.rank)].append(index)
    for (d_out, d_in, rank), indices in by_shape.items():
        size = max(1, CHUNK_NUMBERS // ((d_out + d_in) * rank))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def _by_singular_vectors(
    a: Float[Tensor, "n rank d_in"], b: Float[Tensor, "n d_out rank"]
) -> tuple[Float[Tensor, "n rank d_in"], Float[Tensor, "n rank d_out"]]:
    """With A^T = Qa Ra and B = Qb Rb, the r x r core Rb Ra^T = U S W^T has the update's singular values.

    B A maps back along Qb U, so the right singular vectors are the rows of U^T Rb A up to their lengths, which are the
    singular values: no Q is needed. B A V then is U S.
    """
    rank = a.shape[1]
    _, ra = torch.linalg.qr(a.mT, mode="r")
    _, rb = torch.linalg.qr(b, mode="r")
    u, _, _ = torch.linalg.svd(rb @ ra.mT, full_matrices=False)
    rows = u.mT @ rb @ a
    lengths = rows.norm(dim=-1, keepdim=True)
    there = lengths > ABSENT * lengths[:, :1]
    down = torch.where(there, rows / lengths, 0.0)
    down = torch.nn.functional.pad(down, (0, 0, 0, rank - down.shape[1]))
    return down.float(), (down @ a.mT @ b.mT).float()
