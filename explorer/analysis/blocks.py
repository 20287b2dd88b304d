"""Sums over the blocks of a large symmetric matrix that has a few rows and columns for each adapter, strip by strip.

Only the upper half is ever computed, in strips that are flat enough for a processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Rows = NDArray[np.float32]
Strip = Callable[[slice], Rows | Matrix]
#: Rows of a strip, unless one adapter has more.
MOST_ROWS = 256


def starts_of(ranks: Sequence[int]) -> NDArray[np.intp]:
    """The first row of each adapter when their rows are stacked, and the number of all rows at the end."""
    return np.cumsum([0, *ranks])


def runs_of(ranks: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Neighbours of equal rank: (rank, first, one past the last)."""
    first = 0
    for index in range(1, len(ranks) + 1):
        if index == len(ranks) or ranks[index] != ranks[first]:
            yield ranks[first], first, index
            first = index


def block_sums(ranks: Sequence[int], strip: Strip, most_rows: int = MOST_ROWS) -> Matrix:
    """Sum each adapter-by-adapter block.

    Args:
        ranks: rows of each adapter, N of them, all at least 1, R in total. The fewer changes of rank from one adapter
            to the next, the faster.
        strip: the given rows of the symmetric (R, R) matrix, from the column of the first of them on.
        most_rows: bound of a strip's rows; a strip holds at least one adapter.

    Returns:
        (N, N) float64: entry (i, j) is the sum over the rows of i and the columns of j.
    """
    starts, sums = starts_of(ranks), np.zeros((len(ranks), len(ranks)))
    runs = list(runs_of(ranks))
    for rank, begin, end in runs:
        height = max(most_rows // rank, 1)
        for first in range(begin, end, height):
            last = min(first + height, end)
            rows = strip(slice(starts[first], starts[last]))
            for width, left, right in runs:
                left = max(left, first)
                if left < right:
                    columns = rows[:, starts[left] - starts[first] : starts[right] - starts[first]]
                    across = columns.reshape(len(rows), right - left, width) @ np.ones(width, rows.dtype)
                    down = across.reshape(last - first, rank, right - left).sum(axis=1, dtype=np.float64)
                    sums[first:last, left:right] = down
    return np.asarray(np.triu(sums) + np.triu(sums, 1).T)
