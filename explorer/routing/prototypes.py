"""Arrow's prototypes for many adapters at once: the top right singular vector of each update, exactly.

The same mathematics as `LowRank.spectrum`, batched over adapters of equal rank: thin QR of A^T and B, SVD of the
r x r core. Never by power iteration, which misses the direction when the two largest singular values are close.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.adapters.low_rank import LowRank


def prototypes(updates: Sequence[LowRank]) -> Float[Tensor, "updates d_in"]:
    """Unit top right singular vectors, float32; a zero update has no direction and gets a zero row."""
    rows = torch.zeros(len(updates), updates[0].a.shape[1])
    by_rank: dict[int, list[int]] = defaultdict(list)
    for index, update in enumerate(updates):
        by_rank[update.rank].append(index)
    for indices in by_rank.values():
        a = torch.stack([updates[index].a for index in indices]).double()
        b = torch.stack([updates[index].b for index in indices]).double()
        qa, ra = torch.linalg.qr(a.mT)
        rb = torch.linalg.qr(b, mode="r").R
        _, s, vh = torch.linalg.svd(rb @ ra.mT)
        vectors = (qa @ vh[:, 0, :, None]).squeeze(-1)
        rows[indices] = torch.where(s[:, :1] > 0, vectors, 0.0).float()
    return rows
