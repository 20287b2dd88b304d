"""When the sparse way is cheaper than the dense one: break-even points from tests/benchmarks/break_even.py.

What counts is how many times the kept adapters' rows all rows are. For the few tokens of a step, where compiled loops
do the work, twice is enough; for a whole prompt tensor operations are so much better at plain products that it takes
many times. A router that reads all directions has done the larger half of the dense way already.
"""

from __future__ import annotations

from explorer.routing.bank import Bank
from explorer.routing.router import ScoreRouter
from explorer.routing.top_k import TopKRouter

FEW_TOKENS = 8
TIMES_FOR_FEW, TIMES_FOR_MANY, TIMES_WITH_ALL = 2.0, 20.0, 40.0


def prefers_sparse(bank: Bank, tokens: int, router: ScoreRouter, sharers: int = 1) -> bool:
    """Whether to pick the kept adapters' rows instead of multiplying with all of them.

    Args:
        bank: the adapters.
        tokens: of all rows that share the router.
        router: says how many adapters it keeps.
        sharers: routers in the batch that could go the dense way together, at the price of one.
    """
    kept = min(router.most_kept, len(bank.names)) * bank.most_rank * len(bank.sites)
    if not isinstance(router, TopKRouter) or router.reads == "all directions":
        return len(bank.down) > TIMES_WITH_ALL * kept
    return len(bank.down) > (TIMES_FOR_FEW * sharers if tokens <= FEW_TOKENS else TIMES_FOR_MANY) * kept
