"""Arrow's prototypes: the top right singular vector of each update, exact, for thousands of updates at once.

Section 3.2 of arXiv 2405.11157. Power iteration would do where one singular value dominates, but misses the vector
where the first two are close; an SVD of the r x r core is exact either way and no slower.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.adapters.low_rank import LowRank

CHUNK_NUMBERS = 1 << 22  # of float64: what one batch of factors may hold


def prototypes(updates: Sequence[LowRank], progress: Callable[[int], None] | None = None) -> list[Tensor]:
    """The prototype of each update, in order: (d_in,) float32, unit length; zeros for an update of zero.

    Agrees with `LowRank.spectrum().vh[0]` up to the sign. Updates of one shape go through LAPACK as a batch.

    Args:
        updates: any shapes and ranks.
        progress: called with the number of updates done so far.
    """
    found: list[Tensor] = [torch.empty(0)] * len(updates)
    done = 0
    for chunk in _chunks(updates):
        a = torch.stack([updates[index].a.double() for index in chunk])
        b = torch.stack([updates[index].b.double() for index in chunk])
        for index, vector in zip(chunk, _top_right_vectors(a, b), strict=True):
            found[index] = vector
        done += len(chunk)
        if progress is not None:
            progress(done)
    return found


def _chunks(updates: Sequence[LowRank]) -> Iterator[list[int]]:
    """Indices of updates of one shape, few enough for one batch."""
    by_shape: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
    for index, update in enumerate(updates):
        by_shape[(*update.shape, update.rank)].append(index)
    for (d_out, d_in, rank), indices in by_shape.items():
        size = max(1, CHUNK_NUMBERS // ((d_out + d_in) * rank))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def _top_right_vectors(a: Float[Tensor, "n rank d_in"], b: Float[Tensor, "n d_out rank"]) -> Float[Tensor, "n d_in"]:
    """With A^T = Qa Ra and B = Qb Rb, the core Rb Ra^T has the update's singular values; if u is its first left
    singular vector, then B A maps back along Qb u, so the right one is A^T Rb^T u up to length: no Q is needed.
    """
    _, ra = torch.linalg.qr(a.mT, mode="r")
    _, rb = torch.linalg.qr(b, mode="r")
    u, _, _ = torch.linalg.svd(rb @ ra.mT, full_matrices=False)
    vectors = (a.mT @ (rb.mT @ u[..., :1])).squeeze(-1)
    length = vectors.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, vectors / length, 0.0).float()
