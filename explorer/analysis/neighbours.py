"""The nearest adapters in the true space, with their scores: what the map can only hint at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from explorer.analysis.similarity import Similarity
from explorer.errors import LibraryError


@dataclass(frozen=True)
class Neighbour:
    """Another adapter and its cosine similarity."""

    name: str
    score: float


def neighbours(similarity: Similarity, name: str, count: int = 5) -> tuple[Neighbour, ...]:
    """The `count` adapters most like `name`, most alike first (ties in the library's order).

    Raises:
        LibraryError: no adapter has this name.
    """
    if name not in similarity.names:
        raise LibraryError(f"Adapter {name!r}", "is not among those that were compared")
    own = similarity.names.index(name)
    order = np.argsort(-similarity.values[own], kind="stable")
    nearest = order[order != own][: max(count, 0)]
    return tuple(Neighbour(similarity.names[index], float(similarity.values[own, index])) for index in nearest)
