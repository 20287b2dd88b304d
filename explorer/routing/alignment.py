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


@dataclass(frozen=True, eq=False)
class Turn:
    """What turns an update's factors as trained into the aligned ones: down = reading A, up = writing B^T."""

    reading: Float[Tensor, "rank rank"]
    writing: Float[Tensor, "rank rank"]


def aligned(updates: Sequence[LowRank], turns: Sequence[Turn] | None = None) -> list[Aligned]:
    """Each update by its singular vectors, in order, float32. Cost O(d r^2) each; exact, never by iteration.

    Args:
        updates: any shapes and ranks; those of one shape and rank go through LAPACK as a batch.
        turns: of the same updates, where they are known.
    """
    turns = turns_of(updates) if turns is None else turns
    found: dict[int, Aligned] = {}
    for chunk in _chunks(updates):
        a, b = _factors(updates, chunk)
        down = torch.stack([turns[index].reading for index in chunk]) @ a
        up = torch.stack([turns[index].writing for index in chunk]) @ b.mT
        for index, own_down, own_up in zip(chunk, down.float(), up.float(), strict=True):
            found[index] = Aligned(own_down, own_up)
    return [found[index] for index in range(len(updates))]


def turns_of(updates: Sequence[LowRank]) -> list[Turn]:
    """The turn of each update, float64: the costly part of aligning, and a small result."""
    found: dict[int, Turn] = {}
    for chunk in _chunks(updates):
        scales = torch.tensor([updates[index].scale for index in chunk], dtype=torch.float64)
        for index, reading, writing in zip(chunk, *_turns(*_factors(updates, chunk), scales), strict=True):
            found[index] = Turn(reading, writing)
    return [found[index] for index in range(len(updates))]


def prototypes(updates: Sequence[LowRank]) -> list[Tensor]:
    """Arrow's prototype of each update: (d_in,) float32 of unit length, zeros for an update of zero."""
    return [one.down[0] for one in aligned(updates)]


def _factors(updates: Sequence[LowRank], chunk: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A (n, rank, d_in) and B (n, d_out, rank) of updates of one form, float64."""
    own = [updates[index] for index in chunk]
    return torch.stack([one.a for one in own]).double(), torch.stack([one.b for one in own]).double()


def _chunks(updates: Sequence[LowRank]) -> Iterator[list[int]]:
    """Indices of updates of one shape, few enough for one batch."""
    by_shape: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
    for index, update in enumerate(updates):
        by_shape[(*update.shape, update.rank)].append(index)
    for (d_out, d_in, rank), indices in by_shape.items():
        size = max(1, CHUNK_NUMBERS // ((d_out + d_in) * rank))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


def _turns(
    a: Float[Tensor, "n rank d_in"], b: Float[Tensor, "n d_out rank"], scales: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "n rank rank"], Float[Tensor, "n rank rank"]]:
    """With A^T = Qa Ra and B = Qb Rb, the r x r core Rb Ra^T = U S W^T has the update's singular values.

    B A maps back along Qb U, so the right singular vectors are the rows of U^T Rb A up to their lengths, which are the
    singular values: no Q is needed. With V^T = M A, B A V = B (A A^T M^T) is U S.
    """
    rank = a.shape[1]
    _, ra = torch.linalg.qr(a.mT, mode="r")
    _, rb = torch.linalg.qr(b, mode="r")
    u, _, _ = torch.linalg.svd(rb @ ra.mT, full_matrices=False)
    mix = u.mT @ rb
    lengths = (mix @ a).norm(dim=-1, keepdim=True)
    reading = torch.where(lengths > ABSENT * lengths[:, :1], mix / lengths, 0.0)
    reading = torch.nn.functional.pad(reading, (0, 0, 0, rank - reading.shape[1]))
    return reading, scales[:, None, None] * (reading @ (a @ a.mT))
