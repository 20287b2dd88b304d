"""MBC: k-means on the rows of the similarity matrix (paper, section 3.1).

As in the paper's code: k-means++ with 10 starts and a seed, on the rows of the cosine matrix. K is the user's
choice (the paper uses 10); the silhouette of each K, on the same rows, suggests one.

What was tried is kept in the user's cache, by the values of the similarity matrix.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import combinations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

from explorer.analysis.blocks import Matrix
from explorer.analysis.similarity import Similarity
from explorer.cache import Arrays, from_numbers, kept, key_of, to_numbers
from explorer.errors import SettingsError

MOST_TRIED = 20
DEFAULT_SEED = 42
#: Goes up whenever the same similarities would give other partitions.
FORMAT = 1


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
    tried = _all_tried(similarity.values, seed)
    suggested = max(tried.silhouettes, key=lambda k: tried.silhouettes[k]) if tried.silhouettes else None
    wanted = min(n_clusters or suggested or 1, max(tried.largest, 1))
    labels = tried.labels.get(wanted) or _labels(similarity.values, wanted, seed)
    return Clustering(
        names=similarity.names,
        labels=_renumbered(labels),
        n_clusters=len(set(labels)),
        silhouettes=tried.silhouettes,
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


@dataclass(frozen=True)
class _Tried:
    """The partition for each K that was tried, the mean silhouettes, and the most clusters that make sense."""

    largest: int
    labels: dict[int, list[int]]
    silhouettes: dict[int, float]


def _all_tried(rows: Matrix, seed: int) -> _Tried:
    """Every K from 2 to 20, or as many as make sense: the slow part, and the same whichever K is wanted."""

    def compute() -> _Tried:
        largest = _largest(rows)
        labels = {k: _labels(rows, k, seed) for k in range(2, min(largest, MOST_TRIED) + 1)}
        silhouettes = {k: float(silhouette_score(rows, own)) for k, own in labels.items() if len(set(own)) == k}
        return _Tried(largest, labels, silhouettes)

    def to_arrays(tried: _Tried) -> Arrays:
        return {"tried": to_numbers([tried.largest, list(tried.labels.items()), list(tried.silhouettes.items())])}

    def from_arrays(stored: Arrays) -> _Tried:
        largest, labels, silhouettes = from_numbers(stored["tried"])
        found = {int(k): [int(label) for label in own] for k, own in labels}
        if any(len(own) != len(rows) or not 0 < len(set(own)) <= k for k, own in found.items()):
            raise ValueError("partitions of another library")
        return _Tried(int(largest), found, {int(k): float(value) for k, value in silhouettes})

    key = key_of("clusters", str(FORMAT), version("scikit-learn"), str(seed), str(len(rows)), rows.tobytes())
    return kept(key, compute, to_arrays, from_arrays)


def _largest(rows: Matrix) -> int:
    """The most clusters that make sense: N - 1, and no more than there are different rows."""
    return min(len(rows) - 1, len(np.unique(rows.round(6), axis=0)))


def _labels(rows: Matrix, k: int, seed: int) -> list[int]:
    if k <= 1:
        return [0] * len(rows)
    # several threads in products as small as these mostly wait for each other: up to twenty times slower on two cores
    with threadpool_limits(1), warnings.catch_warnings():
        # rows that hardly differ may make fewer clusters than asked for: the result says how many
        warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)
        return [int(label) for label in KMeans(n_clusters=k, n_init=10, random_state=seed).fit_predict(rows)]


def _renumbered(labels: Sequence[int]) -> tuple[int, ...]:
    order = {label: new for new, label in enumerate(dict.fromkeys(labels))}
    return tuple(order[label] for label in labels)
