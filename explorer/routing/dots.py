"""Inner products of each token with a few chosen rows of a tall matrix, without computing the others."""

from __future__ import annotations

import warnings
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

GATHERED = 1 << 22  # numbers that may be copied at once where rows have to be gathered


def chosen_dots(
    hidden: Float[Tensor, "tokens width"], rows: Float[Tensor, "all width"], chosen: Int[Tensor, "tokens chosen"]
) -> Float[Tensor, "tokens chosen"]:
    """<h_t, rows[chosen[t, c]]> for every token t and choice c.

    For one token the rows are gathered and multiplied. For more, on a CPU in float32, the product is sampled at the
    chosen places (a sparse matrix in CSR form says which), which reads each row where it lies. Elsewhere rows are
    gathered a bounded number at a time.
    """
    tokens, count = chosen.shape
    if tokens == 1:
        return (rows.index_select(0, chosen[0]) @ hidden[0])[None]
    # a sparse matrix cannot hold more entries than it has places
    if hidden.device.type == "cpu" and hidden.dtype == torch.float32 and count <= rows.shape[0]:
        return _sampled(hidden, rows, chosen)
    size = max(1, GATHERED // max(count * hidden.shape[1], 1))
    parts = [
        torch.bmm(rows[chosen[start : start + size]], hidden[start : start + size, :, None])[..., 0]
        for start in range(0, tokens, size)
    ]
    return torch.cat(parts)


def _sampled(hidden: Tensor, rows: Tensor, chosen: Tensor) -> Tensor:
    _accept_sparse_matrices()
    tokens, count = chosen.shape
    pattern = torch.sparse_csr_tensor(
        torch.arange(0, tokens * count + 1, count),
        chosen.reshape(-1),
        hidden.new_zeros(tokens * count),
        (tokens, rows.shape[0]),
        check_invariants=False,  # the indices are our own
    )
    return torch.sparse.sampled_addmm(pattern, hidden, rows.T, beta=0.0).values().view(tokens, count)


@cache
def _accept_sparse_matrices() -> None:
    """Torch says once in a process that its CSR matrices are in beta; nobody here can act on that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.zeros(1), (1, 1), check_invariants=False)
