"""Sums over the blocks of a large matrix that has a few rows and columns for each adapter, a strip at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Strip = Callable[[slice], NDArray[np.float32] | Matrix]
MOST_ENTRIES = 1 << 24


def starts_of(ranks: Sequence[int]) -> NDArray[np.intp]:
    """The first row of each adapter when their rows are stacked."""
    return np.cumsum([0, *ranks[:-1]])


def block_sums(ranks: Sequence[int], strip: Strip, most_entries: int = MOST_ENTRIES) -> Matrix:
    """Sum each adapter-by-adapter block.

    Args:
        ranks: rows of each adapter, N of them, all at least 1, R in total.
        strip: the rows of a slice of the (R, R) matrix.
        most_entries: bound of a strip's size; a strip holds at least one adapter.

    Returns:
        (N, N) float64: entry (i, j) is the sum over the rows of i and the columns of j.
    """
    starts = starts_of(ranks)
    rows = []
    for first, last in _strips(ranks, most_entries):
        own = starts[first:last]
        products = strip(slice(own[0], own[0] + sum(ranks[first:last])))
        # along the rows first: they lie together in memory
        across = np.add.reduceat(products, starts, axis=1, dtype=np.float64)
        rows.append(np.add.reduceat(across, own - own[0], axis=0))
    return np.concatenate(rows)


def _strips(ranks: Sequence[int], most_entries: int) -> Iterator[tuple[int, int]]:
    """Runs of adapters (first, one past the last) whose rows make strips of bounded size."""
    height = max(most_entries // sum(ranks), 1)
    first = held = 0
    for index, rank in enumerate(ranks):
        if held and held + rank > height:
            yield first, index
            first, held = index, 0
        held += rank
    yield first, len(ranks)
