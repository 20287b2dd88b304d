"""Inner products of flattened, thresholded factors in few components: MBC as the paper's code does it.

Flatten A and B (scale not applied), zero the entries up to the adapter's own quantile of |x|, reduce to
min(64, N - 1) components without centring (paper, section 3.1; truncated SVD). The result depends on the basis of the
factors, so it means something only for adapters that started from the same initial A.

The components come from the Gram matrix X X^T (N x N), summed tensor by tensor: the vectors of the adapters are never
held together, and the order of the tensors drops out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.adapters.adapter import Adapter
from explorer.analysis.blocks import Matrix
from explorer.analysis.site_by_site import add_at, over_sites, side_by_side
from explorer.analysis.sites import SiteGroup, site_groups
from explorer.errors import LibraryError

COMPONENTS = 64
# an embedding this much shorter than its vector, or a vector this much shorter than the longest, is rounding error
LOST = 1e-6


@dataclass(frozen=True)
class _Sizes:
    """Of all entries of an adapter: the threshold up to which they count as zero, and the largest."""

    threshold: float
    peak: float


def parameter_products(adapters: Sequence[Adapter], sparsity: float) -> Matrix:
    """(N, N) inner products of N adapters' embeddings; a row is zero where an adapter has none.

    The factors are read twice: an adapter at a time for its threshold, then a site at a time.

    Raises:
        LibraryError: the adapters do not have the same sites and shapes.
    """
    _check_same_tensors(adapters)
    largest = 2 * max(adapter.parameters for adapter in adapters)  # the quantile sorts a copy
    sizes = list(side_by_side(adapters, lambda adapter: _sizes(adapter, sparsity), largest))
    return _reduced(_gram(adapters, sizes))


def _check_same_tensors(adapters: Sequence[Adapter]) -> None:
    first = adapters[0]
    for adapter in adapters[1:]:
        if _shapes(adapter) != _shapes(first):
            raise LibraryError(
                f"Adapter {adapter.name!r}",
                f"has other modules or ranks than {first.name!r}, so their parameters cannot be compared",
                fix="Use the measure 'update'.",
            )


def _shapes(adapter: Adapter) -> dict[str, tuple[tuple[int, int], int]]:
    return {site: (form.shape, form.rank) for site, form in adapter.forms.items()}


def _sizes(adapter: Adapter, sparsity: float) -> _Sizes:
    """The threshold is the adapter's own quantile of |x| over all its factors; no entry is dropped at sparsity 0."""
    entries, filled = np.empty(adapter.parameters, np.float32), 0
    for update in adapter.updates.values():
        for factor in (update.a, update.b):
            np.abs(factor.float().numpy().ravel(), out=entries[filled : filled + factor.numel()])
            filled += factor.numel()
    return _Sizes(float(np.quantile(entries, sparsity)) if sparsity else -1.0, float(entries.max(initial=0.0)))


def _gram(adapters: Sequence[Adapter], sizes: Sequence[_Sizes]) -> Matrix:
    """X X^T up to a common factor, which keeps float32 from overflowing and changes no cosine."""
    peak = max(size.peak for size in sizes) or 1.0
    cuts = np.array([size.threshold for size in sizes], np.float32)[:, None]

    def at_site(group: SiteGroup) -> Matrix:
        updates, products = group.updates(0, len(adapters)), np.zeros((len(adapters), len(adapters)))
        for factors in ([update.a for update in updates], [update.b for update in updates]):
            rows = np.stack([factor.float().numpy().ravel() for factor in factors])
            kept = np.where(np.abs(rows) <= cuts, np.float32(0), rows) / np.float32(peak)
            products += kept @ kept.T
        return products

    total = np.zeros((len(adapters), len(adapters)))
    for group, products in over_sites(site_groups(adapters), at_site):
        add_at(total, group.members, products)
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
