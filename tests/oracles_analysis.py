"""Slow, obvious versions of MBC's measures; written from the paper, sharing no code with the package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

from explorer.adapters.adapter import Adapter


def dense(adapter: Adapter, site: str) -> np.ndarray:
    """The full matrix, float64."""
    update = adapter.updates[site]
    return update.scale * (update.b.double() @ update.a.double()).numpy()


def dense_cosines(adapters: Sequence[Adapter]) -> np.ndarray:
    """Cosines of whole updates written out as vectors; zeros where an adapter lacks a site."""
    shapes = {site: dense(adapter, site).shape for adapter in adapters for site in adapter.updates}
    vectors = [
        np.concatenate(
            [
                (dense(adapter, site) if site in adapter.updates else np.zeros(shape)).ravel()
                for site, shape in shapes.items()
            ]
        )
        for adapter in adapters
    ]
    return cosine_similarity(np.stack(vectors))


def papers_similarity(adapters: Sequence[Adapter], sparsity: float) -> np.ndarray:
    """The paper code's embedding with plain scikit-learn, and the cosines of its rows."""
    rows = []
    for adapter in adapters:
        row = np.concatenate(
            [
                factor.float().numpy().ravel()
                for site in sorted(adapter.updates)
                for factor in (adapter.updates[site].a, adapter.updates[site].b)
            ]
        )
        rows.append(np.where(np.abs(row) <= np.quantile(np.abs(row), sparsity), 0.0, row))
    reducer = TruncatedSVD(n_components=min(64, len(rows) - 1), algorithm="arpack", random_state=0)
    return cosine_similarity(normalize(reducer.fit_transform(np.stack(rows))))


def papers_labels(similarity: np.ndarray, n_clusters: int) -> np.ndarray:
    """The paper code's partition of the rows of a similarity matrix."""
    return KMeans(n_clusters=n_clusters, init="k-means++", n_init=10, random_state=42).fit_predict(similarity)


def mean_subspace_overlap(one: Adapter, two: Adapter) -> float:
    """||V_1^T V_2||_F^2 / min(r_1, r_2) from dense SVDs, averaged over the sites of both (which have the same)."""
    overlaps = []
    for site in one.updates:
        bases = []
        for adapter in (one, two):
            _, s, vh = np.linalg.svd(dense(adapter, site), full_matrices=False)
            bases.append(vh[s > 1e-5 * s[0]])
        overlaps.append(np.square(bases[0] @ bases[1].T).sum() / min(len(bases[0]), len(bases[1])))
    return float(np.mean(overlaps))
