"""Which tasks share an adapter: MBC of the private adapters, a given file of clusters, or chance as the control."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from explorer.adapters.folders import open_folder
from explorer.analysis.cluster_file import read_clusters
from explorer.analysis.clustering import cluster
from explorer.analysis.similarity import similarity

DIGITS = 6


@dataclass(frozen=True)
class Partition:
    """Names of tasks by cluster, each cluster in name order; `facts` say how it came about, as JSON data."""

    members: Mapping[str, tuple[str, ...]]
    facts: Mapping[str, object]


def mbc_partition(
    private: Path, names: Sequence[str], *, n_clusters: int | None, measure: str, sparsity: float, seed: int
) -> Partition:
    """Cluster the private adapters in `private/<name>` (paper, section 3.1).

    Args:
        private: a library with an adapter for each of `names`.
        names: of the tasks.
        n_clusters: K, clamped to what can be told apart; None takes the K of the highest silhouette.
        measure: of likeness, see :mod:`explorer.analysis.similarity`.
        sparsity: of the measure "parameters".
        seed: of k-means.

    Raises:
        LibraryError: the library cannot be read.
    """
    with open_folder(private) as library:
        alike = similarity([library[name] for name in sorted(names)], measure, sparsity)
        found = cluster(alike, n_clusters=n_clusters, seed=seed)
    silhouettes = {str(k): round(value, DIGITS) for k, value in sorted(found.silhouettes.items())}
    facts = {
        "method": "mbc",
        "measure": found.measure,
        "sparsity": alike.sparsity,
        "seed": seed,
        "n_clusters": found.n_clusters,
        "asked_for": n_clusters,
        "suggested": found.suggested,
        "silhouettes": silhouettes,
        "versions": {name: version(name) for name in ("numpy", "scikit-learn")},
    }
    return Partition(found.members(), facts)


def given_partition(path: Path, names: Sequence[str]) -> Partition:
    """The clusters of a file, see :mod:`explorer.analysis.cluster_file`.

    Raises:
        LibraryError: it cannot be read, or is not a partition of exactly these tasks.
    """
    found = read_clusters(path, sorted(names))
    return Partition(found.members(), {"method": "given", "n_clusters": found.n_clusters})


def random_partition(names: Sequence[str], n_clusters: int, seed: int) -> Partition:
    """Clusters of the same number whose sizes differ by one at most: the paper's control for MBC."""
    count = max(1, min(n_clusters, len(names)))
    order = sorted(names)
    random.Random(seed).shuffle(order)  # noqa: S311 - an order, not a secret
    members = {f"cluster_{label}": tuple(sorted(order[label::count])) for label in range(count)}
    return Partition(members, {"method": "random", "seed": seed, "n_clusters": count})
