"""A map in two dimensions: UMAP on the distances 1 - similarity. Distances on it are not evidence.

A map is kept in the user's cache, by the values of the similarity matrix and the seed: drawing it again needs no UMAP,
which takes seconds to import and compile.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from explorer.analysis.blocks import Matrix
from explorer.analysis.similarity import Similarity
from explorer.cache import Arrays, kept, key_of

DEFAULT_SEED = 42
#: Goes up whenever the same similarities would give another map.
FORMAT = 1
NEIGHBOURS = 15
FEWEST_FOR_UMAP = 4
# similarities that differ by less are the same
ROUNDING = 1e-6
# what UMAP warns that it cannot do here, and is not asked for
UNAVAILABLE = (
    "Tensorflow not installed",
    "using precomputed metric; inverse_transform",
    r"precomputed_knn\[2\] \(knn_search_index\) is not an NNDescent object",
)


@dataclass(frozen=True, eq=False)
class Projection:
    """One point per adapter.

    Attributes:
        names: length N.
        xy: (N, 2), centred, the larger side from -1 to 1.
        method: "umap", "pca" (2 or 3 adapters) or "list" (1).
        seed: of UMAP.
    """

    names: tuple[str, ...]
    xy: Matrix
    method: str
    seed: int = DEFAULT_SEED

    def __post_init__(self) -> None:
        if self.xy.shape != (len(self.names), 2):
            raise ValueError("a projection needs two coordinates for each name")


def project(similarity: Similarity, seed: int = DEFAULT_SEED) -> Projection:
    """Lay the adapters out; the same seed gives the same map."""
    count = len(similarity.names)
    if count == 1:
        return Projection(similarity.names, np.zeros((1, 2)), "list", seed)
    if count < FEWEST_FOR_UMAP:
        return Projection(similarity.names, _framed(_principal(similarity.values)), "pca", seed)
    return Projection(similarity.names, _kept_umap(similarity.values, seed), "umap", seed)


def warm_up() -> None:
    """Import and compile UMAP, which takes several seconds once in a process: for a thread that nobody waits for."""
    _umap(np.eye(FEWEST_FOR_UMAP), DEFAULT_SEED)


def _kept_umap(values: Matrix, seed: int) -> Matrix:
    def from_arrays(stored: Arrays) -> Matrix:
        xy = stored["xy"]
        if xy.shape != (len(values), 2) or xy.dtype != np.float64 or not (np.abs(xy) <= 1 + ROUNDING).all():
            raise ValueError("a map of another library")
        return xy

    key = key_of("map", str(FORMAT), version("umap-learn"), str(seed), str(len(values)), values.tobytes())
    return kept(key, lambda: _framed(_umap(values, seed)), lambda xy: {"xy": xy}, from_arrays)


def _umap(values: Matrix, seed: int) -> Matrix:
    count = len(values)
    distances = np.clip(1.0 - values, 0.0, None)
    # Handed over ready-made, because UMAP's own search of a full matrix is compiled first, for several seconds; the
    # map is the same.
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : min(NEIGHBOURS, count - 1)]
    with warnings.catch_warnings():
        for known in UNAVAILABLE:
            warnings.filterwarnings("ignore", message=known)
        import umap  # noqa: PLC0415 - takes seconds to import

        model = umap.UMAP(
            metric="precomputed",
            n_neighbors=nearest.shape[1],
            precomputed_knn=(nearest, np.take_along_axis(distances, nearest, axis=1)),
            min_dist=0.25,
            init=_start(values, seed),
            random_state=seed,
            n_jobs=1,
        )
        return np.asarray(model.fit_transform(distances), dtype=np.float64)


def _start(values: Matrix, seed: int) -> NDArray[np.float32]:
    """Where UMAP begins: the principal components, and a little noise that tells identical adapters apart.

    Its own spectral start has no one solution where adapters are identical or all equally unlike (the map then changes
    from run to run), and none at all for a few.
    """
    noise = np.random.default_rng(seed).normal(scale=1e-2, size=(len(values), 2))
    return (10.0 * _framed(_principal(values)) + noise).astype(np.float32)


def _principal(values: Matrix) -> Matrix:
    centred = values - values.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    scores: Matrix = (u * s)[:, :2]
    return np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))


def _framed(xy: Matrix) -> Matrix:
    low, high = xy.min(axis=0), xy.max(axis=0)
    side = float((high - low).max())
    side = side if side > ROUNDING else 1.0
    return np.asarray((xy - (low + high) / 2) * (2.0 / side))
