"""MBC: k-means on the rows of the similarity matrix (paper, section 3.1).

As in the paper's code: k-means++ with 10 starts and a seed, on the rows of the cosine matrix. K is the user's
choice (the paper uses 10); the silhouette of each K, on the same rows, suggests one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, silhouette_score

from explorer.analysis.blocks import Matrix
from explorer.analysis.similarity import Similarity
from explorer.errors import SettingsError

MOST_TRIED = 20
DEFAULT_SEED = 42


@dataclass(frozen=True)
class Clustering:
    """A partition of a library.

    Attributes:
        names: adapters, length N.
        labels: cluster of each, numbered from 0 in order of first appearance.
        n_clusters: K.
        silhouettes: mean silhouette for each K that was tried (higher is tighter).
        suggested: the K of the highest silhouette, None where none could be computed.
        seed: of k-means.
        measure: of the similarity.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    n_clusters: int
    silhouettes: dict[int, float] = field(default_factory=dict)
    suggested: int | None = None
    seed: int = DEFAULT_SEED
    measure: str = "update"

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.names) or set(self.labels) != set(range(self.n_clusters)):
            raise ValueError("a clustering needs one label for each name, and no empty cluster")

    def members(self) -> dict[str, tuple[str, ...]]:
        """Names by cluster, under the keys of the paper's code (`cluster_0`, ...)."""
        return {
            f"cluster_{label}": tuple(name for name, own in zip(self.names, self.labels, strict=True) if own == label)
            for label in range(self.n_clusters)
        }


def cluster(similarity: Similarity, n_clusters: int | None = None, seed: int = DEFAULT_SEED) -> Clustering:
    """Partition the adapters.

    Args:
        similarity: of N adapters.
        n_clusters: K, clamped to N - 1 as in the paper's code; None takes the suggested K.
        seed: of k-means.

    Raises:
        SettingsError: K is below 1, or the seed is negative.
    """
    if n_clusters is not None and (isinstance(n_clusters, bool) or n_clusters < 1):
        raise SettingsError("Number of clusters", expected="at least 1", found=f"{n_clusters!r}")
    if not 0 <= seed < 2**32:
        raise SettingsError("seed", expected="0 to 4294967295", found=f"{seed!r}")
    rows = similarity.values
    largest = _largest(rows)
    tried = {k: _labels(rows, k, seed) for k in range(2, min(largest, MOST_TRIED) + 1)}
    silhouettes = {k: float(silhouette_score(rows, labels)) for k, labels in tried.items() if len(set(labels)) == k}
    suggested = max(silhouettes, key=lambda k: silhouettes[k]) if silhouettes else None
    wanted = min(n_clusters or suggested or 1, max(largest, 1))
    labels = tried[wanted] if wanted in tried else _labels(rows, wanted, seed)
    return Clustering(
        names=similarity.names,
        labels=_renumbered(labels),
        n_clusters=len(set(labels)),
        silhouettes=silhouettes,
        suggested=suggested,
        seed=seed,
        measure=similarity.measure,
    )


def stability(similarity: Similarity, n_clusters: int, seeds: Sequence[int] = range(5)) -> float:
    """Mean adjusted Rand index between the partitions of different seeds: 1 when the seed does not matter."""
    partitions = [
        _labels(similarity.values, min(n_clusters, max(_largest(similarity.values), 1)), seed) for seed in seeds
    ]
    return float(np.mean([adjusted_rand_score(one, two) for one, two in combinations(partitions, 2)]))


def _largest(rows: Matrix) -> int:
    """The most clusters that make sense: N - 1, and no more than there are different rows."""
    return min(len(rows) - 1, len(np.unique(rows.round(6), axis=0)))


def _labels(rows: Matrix, k: int, seed: int) -> list[int]:
    if k <= 1:
        return [0] * len(rows)
    with warnings.catch_warnings():
        # rows that hardly differ may make fewer clusters than asked for: the result says how many
        warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)
        return [int(label) for label in KMeans(n_clusters=k, n_init=10, random_state=seed).fit_predict(rows)]


def _renumbered(labels: Sequence[int]) -> tuple[int, ...]:
    order = {label: new for new, label in enumerate(dict.fromkeys(labels))}
    return tuple(order[label] for label in labels)
