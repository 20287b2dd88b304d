"""Where the sparse way of mixing becomes cheaper than the dense one (explorer/routing/costs.py). By hand:

    python tests/benchmarks/break_even.py [ADAPTERS ...]

Arrow and SpectR, top 4, rank 4 on q k v o of SmolLM2-135M; times of one pass in ms, both ways in turn.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.synthetic import SAMPLE_BASE, synthetic_library

import explorer
from explorer.models.routed_model import RoutedModel
from explorer.routers import Arrow, SpectR
from explorer.routing import ways

TOKENS = (1, 4, 8, 32, 128, 512)


def pass_time(routed: RoutedModel, router: object, tokens: int, *, sparse: bool, repeats: int = 5) -> float:
    """Milliseconds of one pass over so many tokens, the median of a few."""
    ids = [(7 * place) % 30_000 + 300 for place in range(tokens)]
    routed._plans.clear()
    with mock.patch.object(ways, "prefers_sparse", lambda *_: sparse):
        routed.forward([ids], [router], keep=1)  # chooses the way, and makes ready what it keeps
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        routed.forward([ids], [router], keep=1)
        found.append(1000 * (time.perf_counter() - started))
    return statistics.median(found)


def main(counts: list[int]) -> None:
    base = explorer.load_base_model(SAMPLE_BASE, device="cpu")
    print("adapters tokens router  dense  sparse  sparse/dense")
    for count in counts:
        routed = RoutedModel(base, synthetic_library(count))
        for tokens in TOKENS:
            for router in (Arrow(), SpectR()):
                dense, sparse = (pass_time(routed, router, tokens, sparse=way) for way in (False, True))
                figures = f"{dense:6.1f}  {sparse:6.1f}  {sparse / dense:.2f}"
                print(f"{count:8} {tokens:6} {router.key:6} {figures}", flush=True)


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [8, 16, 32, 64, 128, 256])
