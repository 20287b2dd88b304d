"""Work on a library site by site: all adapters at one site, then the next, so that only a few sites are ever in memory.

The sites are shared out among threads that each compute alone: threads inside one product wait for each other
actively, which costs a multiple of the work as soon as anything else runs on the machine.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from explorer.analysis.blocks import Matrix
from explorer.analysis.sites import SiteGroup

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_WORKERS = 8
#: Bound on the factors, as float32, of everything that is worked on at once; what is larger is worked on alone.
MOST_NUMBERS = 1 << 27


def over_sites(groups: Sequence[SiteGroup], work: Callable[[SiteGroup], Result]) -> Iterator[tuple[SiteGroup, Result]]:
    """What `work` makes of each site, in order; the first error ends it."""
    largest = max((group.numbers for group in groups), default=0)
    return zip(groups, side_by_side(groups, work, largest), strict=True)


def side_by_side(items: Sequence[Item], work: Callable[[Item], Result], largest: int) -> Iterator[Result]:
    """What `work` makes of each item, in order; the first error ends it.

    Args:
        items: what to work on.
        work: called in several threads at once.
        largest: how many numbers the largest item holds while it is worked on.
    """
    workers = max(1, min(os.cpu_count() or 1, MOST_WORKERS, len(items), MOST_NUMBERS // max(largest, 1)))
    waiting: deque[Future[Result]] = deque()
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:  # results are large too
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def add_at(total: Matrix, members: Sequence[int], products: Matrix) -> None:
    """Add the (n, n) products of n members of a library to its (N, N) total."""
    if list(members) == list(range(len(total))):
        total += products  # forty times as fast as picking every row and column
    else:
        total[np.ix_(members, members)] += products
