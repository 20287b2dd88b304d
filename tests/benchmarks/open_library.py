"""How long a large library takes to open, cluster and map, and how much memory: each opening in a process of its own.

    python tests/benchmarks/open_library.py [--shape smollm2|phi2] [--count N] [--dtype float32] [--json FILE]

Synthetic adapters in a temporary folder, with an empty cache: the first opening computes everything, the second finds
it. `smollm2` has the shapes of the sample's base model (120 modules of width 576), `phi2` those of Phi-2 (q, k, v and
dense in 32 layers of width 2560). A tenth of the adapters shares a direction, so that there is something to find.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHAPES = {
    "smollm2": (30, {"q_proj": (576, 576), "k_proj": (576, 192), "v_proj": (576, 192), "o_proj": (576, 576)}),
    "phi2": (32, dict.fromkeys(("q_proj", "k_proj", "v_proj", "dense"), (2560, 2560))),
}
RANKS: tuple[int, ...] = (4,)
CLUSTERS = 10
STEPS = ("imports", "open", "similarity", "clusters", "map")

END = """
used = resource.getrusage(resource.RUSAGE_SELF)
cpu = used.ru_utime + used.ru_stime
print(json.dumps({"peak_bytes": used.ru_maxrss * 1024, "cpu_seconds": cpu, "umap_imported": "umap" in sys.modules}))
"""
# what a user runs; peak memory is that of the whole process, libraries included
FROM_PYTHON = (
    """
import time; started = time.perf_counter()
import json, resource, sys
def tell(step): print(json.dumps({"step": step, "seconds": time.perf_counter() - started}), flush=True)
import explorer, torch, sklearn.cluster; tell("imports")
library = explorer.open_library(sys.argv[1]); tell("open")
alike = explorer.similarity(library); tell("similarity")
explorer.cluster(alike); tell("clusters")
explorer.project(alike); tell("map")
"""
    + END
)
ON_THE_PAGE = (
    """
import time; started = time.perf_counter()
import json, resource, sys
import explorer
from explorer.ui.holding import Holding
holding = Holding(explorer.open_library(sys.argv[1]), trusted=False)
holding.record()
print(json.dumps({"step": "map", "seconds": time.perf_counter() - started}))
"""
    + END
)
PROGRAMS = {"python": FROM_PYTHON, "page": ON_THE_PAGE}


def write_library(folder: Path, shape: str, count: int, dtype: str, ranks: Sequence[int] = RANKS) -> int:
    """Write `count` adapters; returns their bytes. Adapter i has the rank `ranks[i % len(ranks)]`."""
    import torch
    from safetensors.torch import save_file

    sys.path.insert(0, str(ROOT / "tests"))
    from adapter_files import CONFIG, PREFIX, WEIGHTS, config_of

    layers, modules = SHAPES[shape]
    size = 0
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        own, rank = folder / f"adapter-{number:04d}", ranks[number % len(ranks)]
        tensors = {}
        for layer in range(layers):
            for module, (d_in, d_out) in modules.items():
                key = f"{PREFIX}model.layers.{layer}.self_attn.{module}"
                a, b = torch.randn(rank, d_in, generator=generator), torch.randn(d_out, rank, generator=generator)
                a[0, number % CLUSTERS], b[number % CLUSTERS, 0] = d_in**0.5, d_out**0.5
                tensors[f"{key}.lora_A.weight"] = (a * 0.02).to(getattr(torch, dtype))
                tensors[f"{key}.lora_B.weight"] = (b * 0.02).to(getattr(torch, dtype))
        own.mkdir(parents=True)
        config = config_of(rank=rank, base_model=f"synthetic/{shape}", target_modules=list(modules))
        (own / CONFIG).write_text(json.dumps(config))
        save_file(tensors, own / WEIGHTS, metadata={"format": "pt"})
        size += (own / WEIGHTS).stat().st_size
    return size


def open_once(folder: Path, cache: Path, program: str = "python") -> dict[str, Any]:
    """Seconds from the start of a fresh process to each step, the CPU time of all cores, and peak memory in bytes."""
    environment = {**os.environ, "EXPLORER_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAMS[program], str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    seconds = {line["step"]: round(line["seconds"], 2) for line in lines if "seconds" in line}
    return {**seconds, **lines[-1]}


def measure(
    shape: str, count: int, dtype: str = "float32", ranks: Sequence[int] = RANKS, scratch: str | None = None
) -> dict[str, Any]:
    """First and second opening of a synthetic library, from Python and as the page does it (each from no cache)."""
    figures: dict[str, Any] = {"shape": shape, "count": count, "dtype": dtype, "ranks": list(ranks)}
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        library = Path(name) / "library"
        figures["library_bytes"] = write_library(library, shape, count, dtype, ranks)
        time.sleep(2.5)  # files as new as this are not yet remembered
        for program in PROGRAMS:
            cache = Path(name) / f"cache of {program}"
            figures[program] = {which: open_once(library, cache, program) for which in ("first", "second")}
            figures[program]["cache_bytes"] = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures of one library in lines."""
    size = figures["library_bytes"] / 1e9
    head = "{count} adapters of {shape}, ranks {ranks}, {dtype}".format(**figures)
    lines = [f"{head}, {size:.2f} GB", f"{'':16}" + "".join(f"{step:>12}" for step in (*STEPS, "CPU time", "peak"))]
    for program in PROGRAMS:
        for which in ("first", "second"):
            run = figures[program][which]
            steps = "".join(f"{run[step]:>10.2f} s" if step in run else f"{'':>12}" for step in STEPS)
            ends = f"{run['cpu_seconds']:>10.2f} s{run['peak_bytes'] / 1e9:>9.2f} GB"
            lines.append(f"{program + ', ' + which:16}{steps}{ends}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="smollm2")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--ranks", type=int, nargs="+", default=list(RANKS))
    parser.add_argument("--scratch", help="where the library is written, by default the system's temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = measure(options.shape, options.count, options.dtype, options.ranks, options.scratch)
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
