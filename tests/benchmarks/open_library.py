"""How long a large library takes to open, cluster and map, in a fresh process. By hand:

    python tests/benchmarks/open_library.py [ADAPTERS]

Synthetic adapters of mixed rank (4, 8, 16) with the shapes of the sample's base model: 120 sites of width 576.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from adapter_files import write_adapter

SHAPES = {"q_proj": (576, 576), "k_proj": (576, 192), "v_proj": (576, 192), "o_proj": (576, 576)}


def sites(rank: int) -> dict[str, tuple[int, int, int]]:
    return {
        f"model.layers.{layer}.self_attn.{module}": (rank, d_in, d_out)
        for layer in range(30)
        for module, (d_in, d_out) in SHAPES.items()
    }


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            rank = random.Random(number).choice((4, 8, 16))
            write_adapter(Path(folder) / f"adapter-{number:04d}", sites(rank), seed=number, dtype=torch.float16)
        figures: dict[str, object] = {"adapters": count, "threads": torch.get_num_threads()}
        started = time.perf_counter()

        import explorer

        library = explorer.open_library(folder)
        figures["open_s"] = round(time.perf_counter() - started, 2)
        alike = explorer.similarity(library)
        figures["similarity_s"] = round(time.perf_counter() - started, 2)
        explorer.cluster(alike)
        figures["clusters_s"] = round(time.perf_counter() - started, 2)
        explorer.project(alike)
        figures["map_s"] = round(time.perf_counter() - started, 2)
        print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
