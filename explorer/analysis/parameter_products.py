"""Inner products of flattened, thresholded factors in few components: MBC as the paper's code does it.

Flatten A and B (scale not applied), zero the entries up to the adapter's own quantile of |x|, reduce to
min(64, N - 1) components without centring (paper, section 3.1; truncated SVD). The result depends on the basis of the
factors, so it means something only for adapters that started from the same initial A.

The components come from the Gram matrix X X^T (N x N), summed tensor by tensor: no adapter is ever held as one long
vector beside another, and the order of the tensors drops out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from explorer.adapters.adapter import Adapter
from explorer.analysis.blocks import Matrix
from explorer.errors import LibraryError

COMPONENTS = 64
# an embedding this much shorter than its vector, or a vector this much shorter than the longest, is rounding error
LOST = 1e-6


def parameter_products(adapters: Sequence[Adapter], sparsity: float) -> Matrix:
    """(N, N) inner products of N adapters' embeddings; a row is zero where an adapter has none.

    Raises:
        LibraryError: the adapters do not have the same sites and shapes.
    """
    _check_same_tensors(adapters)
    return _reduced(_gram(adapters, [_threshold(adapter, sparsity) for adapter in adapters]))


def _check_same_tensors(adapters: Sequence[Adapter]) -> None:
    first = adapters[0]
    for adapter in adapters[1:]:
        if _shapes(adapter) != _shapes(first):
            raise LibraryError(
                f"Adapter {adapter.name!r}",
                f"has other modules or ranks than {first.name!r}, so their parameters cannot be compared",
                fix="Use the measure 'update'.",
            )


def _shapes(adapter: Adapter) -> dict[str, tuple[torch.Size, torch.Size]]:
    return {site: (update.a.shape, update.b.shape) for site, update in adapter.updates.items()}


def _factors(adapter: Adapter, site: str) -> tuple[Tensor, Tensor]:
    return adapter.updates[site].a, adapter.updates[site].b


def _threshold(adapter: Adapter, sparsity: float) -> float:
    """The adapter's own quantile of |x| over all its factors; no entry is dropped at sparsity 0."""
    if sparsity == 0:
        return -1.0
    entries = [factor.float().abs().flatten() for site in adapter.updates for factor in _factors(adapter, site)]
    return float(np.quantile(torch.cat(entries).numpy(), sparsity))


def _gram(adapters: Sequence[Adapter], thresholds: Sequence[float]) -> Matrix:
    """X X^T up to a common factor, which keeps float32 from overflowing and changes no cosine."""
    peak = max(
        (float(factor.abs().max()) for one in adapters for site in one.updates for factor in _factors(one, site)),
        default=0.0,
    )
    total = np.zeros((len(adapters), len(adapters)))
    for site in adapters[0].updates:
        for pair in zip(*(_factors(adapter, site) for adapter in adapters), strict=True):
            rows = torch.stack([factor.float().flatten() for factor in pair])
            cut = torch.tensor(thresholds, dtype=torch.float32)[:, None]
            kept = (torch.where(rows.abs() <= cut, 0.0, rows) / (peak or 1.0)).numpy()
            total += kept @ kept.T
    return total


def _reduced(gram: Matrix) -> Matrix:
    """Keep the min(64, N - 1) largest components, as a truncated SVD without centring does."""
    count = len(gram)
    if count == 1:
        return gram
    values, vectors = np.linalg.eigh(gram)
    kept = slice(count - min(COMPONENTS, count - 1), None)
    embedding = vectors[:, kept] * np.sqrt(np.clip(values[kept], 0.0, None))
    lengths = np.sqrt(np.clip(np.diag(gram), 0.0, None))
    lost = (np.linalg.norm(embedding, axis=1) <= LOST * lengths) | (lengths <= LOST * lengths.max())
    embedding[lost] = 0.0
    return np.asarray(embedding @ embedding.T)
